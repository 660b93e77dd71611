"""What a picture file says beside its pixels: comments, EXIF, XMP, profiles, whatever stands between them."""

from turnguard.media.pictures.metadata.texts import metadata_of

__all__ = ["metadata_of"]
