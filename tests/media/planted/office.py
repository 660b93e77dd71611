"""Places of docx, xlsx and pptx files. Written by hand: the parts that a place needs, no more."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

from tests.media.planted.marks import MARK, WORDS, Planted, red_png

W = "xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'"
A = "xmlns:a='http://schemas.openxmlformats.org/drawingml/2006/main'"
P = f"xmlns:p='http://schemas.openxmlformats.org/presentationml/2006/main' {A}"
X = "xmlns='http://schemas.openxmlformats.org/spreadsheetml/2006/main'"
R = "xmlns:r='http://schemas.openxmlformats.org/officeDocument/2006/relationships'"
TYPES = "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'><Default Extension='xml' ContentType='application/xml'/></Types>"
RELATIONS = "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>{}</Relationships>"
CORE = "<cp:coreProperties xmlns:cp='http://schemas.openxmlformats.org/package/2006/metadata/core-properties' xmlns:dc='http://purl.org/dc/elements/1.1/'>{}</cp:coreProperties>"


def package(parts: dict[str, str | bytes], comment: bytes = b"") -> bytes:
    """An Office file of these parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        for name, data in {"[Content_Types].xml": TYPES, "_rels/.rels": RELATIONS.format(""), **parts}.items():
            archive.writestr(name, data)
    return out.getvalue()


def word(body: str = "<w:p><w:r><w:t>An ordinary paragraph.</w:t></w:r></w:p>", **parts: str | bytes) -> bytes:
    """A docx. Parts beside the document by their name, with `__` for `/` and `_` for `.`."""
    document = f"<?xml version='1.0'?><w:document {W} {R} {A}><w:body>{body}</w:body></w:document>"
    return package({"word/document.xml": document, **_named(parts)})


def sheet(rows: str = "<row r='1'><c r='A1'><v>5</v></c></row>", **parts: str | bytes) -> bytes:
    """An xlsx."""
    workbook = f"<workbook {X} {R}><sheets><sheet name='Sheet1' sheetId='1' r:id='rId1'/></sheets></workbook>"
    first = f"<worksheet {X}><sheetData>{rows}</sheetData></worksheet>"
    return package({"xl/workbook.xml": workbook, "xl/worksheets/sheet1.xml": first, **_named(parts)})


def slides(body: str = "<a:p><a:r><a:t>An ordinary slide.</a:t></a:r></a:p>", **parts: str | bytes) -> bytes:
    """A pptx."""
    return package(
        {"ppt/presentation.xml": f"<p:presentation {P}/>", "ppt/slides/slide1.xml": slide(body), **_named(parts)}
    )


def slide(body: str, shown: str = "", named: str = "") -> str:
    head = f"<p:nvSpPr><p:cNvPr id='2' name='Title 1' {named}/></p:nvSpPr>"
    return f"<p:sld {P} {shown}><p:cSld><p:spTree><p:sp>{head}<p:txBody>{body}</p:txBody></p:sp></p:spTree></p:cSld></p:sld>"


def _named(parts: dict[str, str | bytes]) -> dict[str, str | bytes]:
    return {name.replace("__", "/").replace("_", "."): data for name, data in parts.items()}


def text(of: str = WORDS) -> str:
    return f"<w:p><w:r><w:t>{of}</w:t></w:r></w:p>"


def shown(of: str = WORDS) -> str:
    return f"<a:p><a:r><a:t>{of}</a:t></a:r></a:p>"


CUT = "<w:p><w:r><w:t>how to do UNS</w:t></w:r><w:proofErr w:type='spellStart'/><w:r><w:rPr><w:b/></w:rPr><w:t>AFEViolence</w:t></w:r></w:p>"
CHART = f"<c:chartSpace xmlns:c='http://schemas.openxmlformats.org/drawingml/2006/chart' {A}><c:chart><c:title><c:tx><c:rich>{shown()}</c:rich></c:tx></c:title></c:chart></c:chartSpace>"
Made = Callable[[], Planted | bytes]

DOCX: dict[str, Made] = {
    "the text": lambda: word(text()),
    "a word cut into runs": lambda: word(CUT),
    "hidden text": lambda: word(f"<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>{WORDS}</w:t></w:r></w:p>"),
    "deleted text": lambda: word(f"<w:p><w:del w:author='a'><w:r><w:delText>{WORDS}</w:delText></w:r></w:del></w:p>"),
    "a table": lambda: word(f"<w:tbl><w:tr><w:tc>{text()}</w:tc></w:tr></w:tbl>"),
    "a header": lambda: word(word__header1_xml=f"<w:hdr {W}>{text()}</w:hdr>"),
    "a footer": lambda: word(word__footer1_xml=f"<w:ftr {W}>{text()}</w:ftr>"),
    "a footnote": lambda: word(word__footnotes_xml=f"<w:footnotes {W}><w:footnote>{text()}</w:footnote></w:footnotes>"),
    "an endnote": lambda: word(word__endnotes_xml=f"<w:endnotes {W}><w:endnote>{text()}</w:endnote></w:endnotes>"),
    "a comment": lambda: word(
        word__comments_xml=f"<w:comments {W}><w:comment w:author='a'>{text()}</w:comment></w:comments>"
    ),
    "a comment's author": lambda: word(
        word__comments_xml=f"<w:comments {W}><w:comment w:author='{WORDS}'>{text('x y z')}</w:comment></w:comments>"
    ),
    "alternative text": lambda: word(
        f"<w:p><w:r><w:drawing><docPr id='1' name='Picture 1' descr='{WORDS}'/></w:drawing></w:r></w:p>"
    ),
    "a text box": lambda: word(f"<w:p><w:r><w:pict><w:txbxContent>{text()}</w:txbxContent></w:pict></w:r></w:p>"),
    "a field's instruction": lambda: word(f'<w:p><w:r><w:instrText>QUOTE "{WORDS}"</w:instrText></w:r></w:p>'),
    "the title of a control": lambda: word(
        f"<w:sdt><w:sdtPr><w:alias w:val='{WORDS}'/></w:sdtPr><w:sdtContent>{text('x y')}</w:sdtContent></w:sdt>"
    ),
    "a bookmark": lambda: word(f"<w:bookmarkStart w:id='0' w:name='{MARK}'/>{text('x y')}"),
    "the name of a style": lambda: word(
        word__styles_xml=f"<w:styles {W}><w:style><w:name w:val='{WORDS}'/></w:style></w:styles>"
    ),
    "the title": lambda: word(docProps__core_xml=CORE.format(f"<dc:title>{WORDS}</dc:title>")),
    "a custom property": lambda: word(
        docProps__custom_xml=f"<Properties><property name='a'><lpwstr>{WORDS}</lpwstr></property></Properties>"
    ),
    "a link's target": lambda: word(
        word___rels__document_xml_rels=RELATIONS.format(
            f"<Relationship Id='rId9' Target='http://example.com/{MARK}' TargetMode='External'/>"
        )
    ),
    "data of one's own": lambda: word(customXml__item1_xml=f"<root><note>{WORDS}</note></root>"),
    "a chart": lambda: word(word__charts__chart1_xml=CHART),
    "an attached text": lambda: word(word__embeddings__notes_txt=WORDS),
    "an embedded workbook": lambda: word(
        word__embeddings__Microsoft_Excel_Sheet1_xlsx=sheet(f"<row><c t='inlineStr'><is><t>{WORDS}</t></is></c></row>")
    ),
    "the name of a part": lambda: package({"word/document.xml": f"<w:document {W}/>", f"word/{MARK}.xml": "<a/>"}),
    "an XML comment": lambda: word(f"<!-- {WORDS} -->" + text("x y")),
    "the archive's comment": lambda: package(
        {"word/document.xml": f"<w:document {W}>{text('x y')}</w:document>"}, WORDS.encode()
    ),
    "an embedded picture": lambda: word(word__media__image1_png=red_png()),
}

XLSX: dict[str, Made] = {
    "a shared string": lambda: sheet(xl__sharedStrings_xml=f"<sst {X}><si><t>{WORDS}</t></si></sst>"),
    "a word cut into runs": lambda: sheet(
        xl__sharedStrings_xml=f"<sst {X}><si><r><t>how to do UNSAFEVi</t></r><r><rPr><b/></rPr><t>olence</t></r></si></sst>"
    ),
    "an inline string": lambda: sheet(f"<row><c t='inlineStr'><is><t>{WORDS}</t></is></c></row>"),
    "a result of a formula": lambda: sheet(f"<row><c t='str'><f>A2</f><v>{WORDS}</v></c></row>"),
    "a formula": lambda: sheet(f'<row><c><f>CONCATENATE("{WORDS}",A1)</f><v>1</v></c></row>'),
    "a hidden sheet": lambda: sheet(
        xl__worksheets__sheet2_xml=f"<worksheet {X}><sheetData><row><c t='inlineStr'><is><t>{WORDS}</t></is></c></row></sheetData></worksheet>"
    ),
    "the name of a sheet": lambda: package(
        {"xl/workbook.xml": f"<workbook {X}><sheets><sheet name='{WORDS}' state='veryHidden'/></sheets></workbook>"}
    ),
    "a defined name": lambda: package(
        {
            "xl/workbook.xml": f"<workbook {X}><definedNames><definedName name='{MARK}'>Sheet1!$A$1</definedName></definedNames></workbook>"
        }
    ),
    "a comment": lambda: sheet(
        xl__comments1_xml=f"<comments {X}><commentList><comment><text><t>{WORDS}</t></text></comment></commentList></comments>"
    ),
    "a threaded comment": lambda: sheet(
        xl__threadedComments__threadedComment1_xml=f"<ThreadedComments><threadedComment><text>{WORDS}</text></threadedComment></ThreadedComments>"
    ),
    "a header": lambda: package(
        {
            "xl/worksheets/sheet1.xml": f"<worksheet {X}><headerFooter><oddHeader>&amp;C{WORDS}</oddHeader></headerFooter></worksheet>"
        }
    ),
    "a message of a validation": lambda: package(
        {
            "xl/worksheets/sheet1.xml": f"<worksheet {X}><dataValidations><dataValidation prompt='{WORDS}'/></dataValidations></worksheet>"
        }
    ),
    "a tooltip": lambda: package(
        {
            "xl/worksheets/sheet1.xml": f"<worksheet {X}><hyperlinks><hyperlink ref='A1' tooltip='{WORDS}'/></hyperlinks></worksheet>"
        }
    ),
    "a column of a table": lambda: sheet(
        xl__tables__table1_xml=f"<table {X}><tableColumns><tableColumn id='1' name='{WORDS}'/></tableColumns></table>"
    ),
    "a pivot cache": lambda: sheet(
        xl__pivotCache__pivotCacheDefinition1_xml=f"<pivotCacheDefinition {X}><sharedItems><s v='{WORDS}'/></sharedItems></pivotCacheDefinition>"
    ),
    "alternative text": lambda: sheet(
        xl__drawings__drawing1_xml=f"<xdr:wsDr xmlns:xdr='x'><xdr:cNvPr id='1' name='Picture 1' descr='{WORDS}'/></xdr:wsDr>"
    ),
    "a text box": lambda: sheet(
        xl__drawings__drawing1_xml=f"<xdr:wsDr xmlns:xdr='x' {A}><xdr:txBody>{shown()}</xdr:txBody></xdr:wsDr>"
    ),
    "a chart": lambda: sheet(xl__charts__chart1_xml=CHART),
    "a number's format": lambda: sheet(
        xl__styles_xml=f"<styleSheet {X}><numFmts><numFmt formatCode='\"{WORDS}\"0'/></numFmts></styleSheet>"
    ),
    "the title": lambda: sheet(docProps__core_xml=CORE.format(f"<dc:title>{WORDS}</dc:title>")),
    "a link to another workbook": lambda: sheet(
        xl__externalLinks__externalLink1_xml=f"<externalLink {X}><sheetDataSet><cell><v>{WORDS}</v></cell></sheetDataSet></externalLink>"
    ),
    "an embedded picture": lambda: sheet(xl__media__image1_png=red_png()),
}

PPTX: dict[str, Made] = {
    "a slide": lambda: slides(shown()),
    "a word cut into runs": lambda: slides(
        "<a:p><a:r><a:t>how to do UNSAFE</a:t></a:r><a:r><a:rPr b='1'/><a:t>Violence</a:t></a:r></a:p>"
    ),
    "a hidden slide": lambda: slides(ppt__slides__slide2_xml=slide(shown(), "show='0'")),
    "notes": lambda: slides(ppt__notesSlides__notesSlide1_xml=f"<p:notes {P}>{shown()}</p:notes>"),
    "a comment": lambda: slides(
        ppt__comments__comment1_xml=f"<p:cmLst {P}><p:cm><p:text>{WORDS}</p:text></p:cm></p:cmLst>"
    ),
    "a comment's author": lambda: slides(
        ppt__commentAuthors_xml=f"<p:cmAuthorLst {P}><p:cmAuthor id='0' name='{WORDS}'/></p:cmAuthorLst>"
    ),
    "a layout": lambda: slides(ppt__slideLayouts__slideLayout1_xml=f"<p:sldLayout {P}>{shown()}</p:sldLayout>"),
    "a master": lambda: slides(ppt__slideMasters__slideMaster1_xml=f"<p:sldMaster {P}>{shown()}</p:sldMaster>"),
    "a handout": lambda: slides(
        ppt__handoutMasters__handoutMaster1_xml=f"<p:handoutMaster {P}>{shown()}</p:handoutMaster>"
    ),
    "alternative text": lambda: slides(ppt__slides__slide2_xml=slide(shown("x y"), named=f"descr='{WORDS}'")),
    "the name of a shape": lambda: slides(ppt__slides__slide2_xml=slide(shown("x y"), named=f"title='{WORDS}'")),
    "a diagram": lambda: slides(ppt__diagrams__data1_xml=f"<dgm:dataModel xmlns:dgm='d' {A}>{shown()}</dgm:dataModel>"),
    "a chart": lambda: slides(ppt__charts__chart1_xml=CHART),
    "a section's name": lambda: package(
        {"ppt/presentation.xml": f"<p:presentation {P}><p14:section xmlns:p14='p' name='{WORDS}'/></p:presentation>"}
    ),
    "a tag": lambda: slides(ppt__tags__tag1_xml=f"<p:tagLst {P}><p:tag name='A' val='{WORDS}'/></p:tagLst>"),
    "the title": lambda: slides(docProps__core_xml=CORE.format(f"<dc:title>{WORDS}</dc:title>")),
    "the titles of slides": lambda: slides(
        docProps__app_xml=f"<Properties><TitlesOfParts><lpstr>{WORDS}</lpstr></TitlesOfParts></Properties>"
    ),
    "a link's target": lambda: slides(
        ppt__slides___rels__slide1_xml_rels=RELATIONS.format(
            f"<Relationship Id='rId9' Target='http://example.com/{MARK}'/>"
        )
    ),
    "an attached PDF's name": lambda: package(
        {"ppt/presentation.xml": f"<p:presentation {P}/>", f"ppt/embeddings/{MARK}.txt": "x"}
    ),
    "an attached text": lambda: slides(ppt__embeddings__notes_txt=WORDS),
    "an embedded picture": lambda: slides(ppt__media__image1_png=red_png()),
}


def plain() -> list[Planted]:
    """Ordinary files: nothing of them may be listed."""
    settings = b"\x00\x01printer"
    blue = red_png((1, 1))
    return [
        Planted(word(text("An ordinary text."), word__media__image1_png=blue), "a.docx"),
        Planted(sheet(xl__printerSettings__printerSettings1_bin=settings), "a.xlsx"),
        Planted(slides(), "a.pptx"),
    ]
