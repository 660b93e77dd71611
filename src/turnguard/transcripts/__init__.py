"""One conversation: any provider's messages → steps → decisions → the same messages.

`check.py` decides and `apply.py` carries out. `read.py` walks a block, `message.py` a message, `conversation.py`
follows the turns. The dialects are tables: `calls.py` for calls and results, `media.py` for pictures and files,
`names.py` for what carries no words.
"""
