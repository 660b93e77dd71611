"""The guard over HTTP, and its console. `turnguard serve` starts it; `create_app` gives the ASGI application.

Needs the extra `service`. FastAPI and uvicorn are imported in this package alone.
"""
