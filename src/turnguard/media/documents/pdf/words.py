"""The words among a PDF's strings and names: everything but what a written table knows to be wordless."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from turnguard.media.documents.pdf.objects import Item, Name, walk

_WORDLESS_STRINGS = frozenset(("ID", "CheckSum", "CharSet", "Panose", "DA", "Registry", "Ordering", "Lookup", "NM"))
"""Keys whose strings are identifiers, digests, drawing operators and names of character sets (ISO 32000-1)."""
_KEYS_OF_ENCRYPTION = frozenset(("O", "U", "OE", "UE", "Perms"))
_WORDLESS = re.compile(
    r"D:\d{4,14}[-+Z'0-9]*"  # dates
    r"|[a-z]{2,3}(?:-[A-Za-z]{2,4})?"  # languages
    r"|node\d+|[0-9A-Fa-f]{16,}|(?:uuid:|urn:uuid:|xmp\.[di]id:)?[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|[\W\d_]*"
)
_WORD = re.compile(r"\S+")
_SUBSET = re.compile(r"[A-Z]{6}\+")
_RESOURCE = re.compile(
    r".{0,3}|(?:TT|Im|Image|Img|Fm|Fx|Form|GS|gs|Gs|CS|Cs|Pat|Pattern|Sh|MC|Xi|XO|XObj|Font|Meta|Prop|Pr|R|KSP|KSPX|PS|x)\d+"
    r"|[A-Za-z]{1,2}\d+|Xip?\d+|[A-Za-z]\d+_?\d*"
)
_RUN = re.compile(rb"[A-Za-z][A-Za-z ,.'-]{5,}")
_MARKS = ((b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"), (b"\xef\xbb\xbf", "utf-8"))
_LANGUAGE = re.compile("\x1b[^\x1b]{0,12}\x1b")  # a language inside a text string in UTF-16


def strings_of(items: Iterable[Item]) -> Iterator[str]:
    """The strings of all objects, in their order."""
    for item in items:
        for key, value, holder in walk(item.value):
            if isinstance(value, bytes) and type(value) is bytes and not _is_wordless(key, holder):
                yield from texts_of(value)


def _is_wordless(key: str, holder: Any) -> bool:
    if key in _WORDLESS_STRINGS:
        return True
    if isinstance(holder, dict):
        return key in _KEYS_OF_ENCRYPTION and "V" in holder and "P" in holder
    return isinstance(holder, list) and holder[:1] == ["Indexed"]


def texts_of(value: bytes) -> list[str]:
    """What a string says; of bytes that are no text (a signature) the words in it. Empty for what is wordless."""
    for mark, encoding in _MARKS:
        if value.startswith(mark):
            text = _LANGUAGE.sub("", value[len(mark) :].decode(encoding, "replace"))
            return [] if _WORDLESS.fullmatch(text.strip()) else [text]
    if sum(byte < 9 or 13 < byte < 24 for byte in value) * 20 > len(value):
        return [run.decode("ascii") for run in _RUN.findall(value)]
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("cp1252", "replace")  # PDFDocEncoding, but for a few accents
    return [] if _WORDLESS.fullmatch(text.strip()) else [text]


def names_of(items: Iterable[Item]) -> Iterator[str]:
    """The names that are not PDF's own words: of form values, fonts, styles, colours, custom properties."""
    seen: set[str] = set()
    for item in items:
        for key, value, holder in walk(item.value):
            found = [value] if isinstance(value, Name) and key not in ("Differences", "Filter") else []
            if isinstance(value, dict) and key != "CharProcs":
                found += [Name(name.rstrip("'")) for name in value]
            del holder
            for name in found:
                plain = _SUBSET.sub("", name)
                if plain not in seen:
                    seen.add(plain)
                    if plain not in _VOCABULARY and not _RESOURCE.fullmatch(plain):
                        yield plain


_VOCABULARY = frozenset(
    _WORD.findall(
        """
        AcroForm Action ActualText AESV2 AESV3 Alternate Alternates Annot Annots Art ArtBox Artifact Ascent AuthEvent
        Author AvgWidth BBox BM BS BaseEncoding BaseFont BaseState BaseVersion Bead BitsPerComponent BitsPerCoordinate
        BitsPerFlag BitsPerSample BlackIs1 BlackPoint BleedBox Block Border Bounds Btn ByteRange CCITTFaxDecode CFM
        CIDFontType0 CIDFontType0C CIDFontType2 CIDInit CIDSet CIDSystemInfo CIDToGIDMap CMap CMapName CalGray CalRGB
        CapHeight Caption Catalog CenterWindow CharProcs CheckSum Circle Class ClassMap Code Col ColSpan ColorSpace
        ColorTransform Colorants Colors Columns Comment Components Contents Coords Count Creation CreationDate Creator
        CropBox Crypt CryptFilter Cyan Black Magenta Yellow All None DCTDecode Data DecodeParms Decode DefaultCMYK
        DefaultGray DefaultRGB Descent DescendantFonts Desc Dest DestOutputProfile Dests DeviceCMYK DeviceGray DeviceN
        DeviceRGB Differences Direction DisplayDocTitle Div Document Domain Duplex EarlyChange EmbeddedFile
        EmbeddedFiles Encode Encoding EncodedByteAlign Encrypt EncryptMetadata EndOfBlock EndOfLine Event Export
        ExtGState Extend Extends Extensions ExtensionLevel FirstChar First Figure Fields Filespec FileAttachment
        Filter Fit FitB FitBH FitBV FitH FitR FitV FitWindow Flags FlateDecode Font FontBBox FontDescriptor FontFamily
        FontFile FontFile2 FontFile3 FontMatrix FontName FontStretch FontWeight Footnote Form FormType FreeText
        FunctionType Function Functions GoTo GoToR GoToE Group GTS_PDFA1 GTS_PDFX Height Helv HideMenubar HideToolbar
        Highlight HalftoneType Headers IDTree ICCBased IRT Identity Identity-H Identity-V Image ImageB ImageC ImageI
        ImageMask Index Indexed Info Ink Intent Interpolate ItalicAngle JBIG2Decode JBIG2Globals JPXDecode JavaScript
        Keywords Kids Lang LastChar LastModified Last Launch Layout LBody Leading Length Length1 Length2 Length3 Lbl
        Limits Line Linearized Link ListNumbering Lab Locked Luminosity MacExpertEncoding MacRomanEncoding MarkInfo
        Marked Mask Matrix MaxLen MaxWidth MediaBox Metadata MissingWidth ModDate Multiply NChannel Names
        NeedAppearances Next NeedsRendering NewWindow NonFullScreenPageMode Normal Normalized NonStruct Note Nums OCG
        OCGs OCMD OCProperties ObjStm OneColumn Open OpenAction Opt Order Ordering Outlines OutputCondition
        OutputConditionIdentifier OutputIntent OutputIntents Overlay Page PageLabel PageLabels PageLayout PageMode
        Pages PaintType Params Parent ParentTree ParentTreeNextKey Pattern PatternType Perceptual PickTrayByPDFSize
        PieceInfo Placement Polygon PolyLine Popup Predictor PreserveAspectRatio Prev PrintScaling Print PrintState
        Private ProcSet Procset Producer Properties Quote QuadPoints Range RBGroups Reference RelativeColorimetric
        RegistryName Registration Resources RoleMap Root Rotate Row RowHeaders RowSpan Rows Saturation Screen Sect
        Separation SetOCGState Shading ShadingType Sig SigFlags Size SMask SMaskInData Sound SpaceAfter SpaceBefore
        Span Square Squiggly StandardEncoding Stamp Standard State StdCF StemH StemV StmF StrF StrikeOut StructElem
        StructParent StructParents StructTreeRoot Style Subject Subtype Suspects Supplement SubmitForm
        SymbolSetEncoding TBody TFoot THead TOC TOCI Table Tabs TextAlign Thread Threads Thumb TilingType Title
        ToUnicode Tabs Trans Transparency TrapNet Trapped TrimBox True False TrueType TwoColumnLeft TwoColumnRight
        Type Type0 Type1 Type1C Type3 Underline Unknown Usage UseNone UseOutlines UseThumbs UseOC UserProperties
        UserUnit VerticesPerRow Version View ViewState ViewerPreferences Watermark WhitePoint Widget Width Widths
        WinAnsiEncoding Workflow WritingMode XFA XHeight XObject XRef XRefStm XStep XYZ YStep Zoom ZapfDingbats ZaDb
        OpenType CIDFont InlineShape Endnote Textbox Diagram Chartsheet Dialogsheet Workbook Worksheet Slide Header
        Footer Annotation Start End Before After Inline DocOpen ASCII85Decode ASCIIHexDecode LZWDecode RunLengthDecode
        Gamma Helvetica Helvetica-Bold Helvetica-Oblique Times-Roman Times-Bold Times-Italic Courier Symbol
        PDFDocEncoding pdfaid SourceModified
        """
    )
)
"""Names of ISO 32000-1 that ordinary files hold. A name that is missing here costs a few tokens, no more."""
