"""An embedded stand-in for the GPU server: vLLM's wire format on loopback, small transparent rules, OCR on the CPU.

It is not the Nemotron model, and says so on every start and in every reply.
"""
