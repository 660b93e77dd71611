"""A message's content as parts, and content of the same shape with other parts in it."""

from turnguard.transcripts.block import ARTIFACT, Block, Region
from turnguard.transcripts.read import read, read_field
from turnguard.transcripts.write import replace

__all__ = ["ARTIFACT", "Block", "Region", "read", "read_field", "replace"]
