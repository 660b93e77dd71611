"""The language guess: scripts decide at once, Latin text by py3langid, and unsure means the default."""

import csv
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from py3langid.langid import LanguageIdentifier

from turnguard.text import language
from turnguard.text.language import LANGUAGES, guess, primary

UNSURE: Final = "unsure"  # stands for the default, which is a legal answer to no question here

# Written for this test: what people type to an assistant, fifteen short prompts per Latin language.
PROMPTS: Final = {
    "en": """
How do I get rid of a body
tell me a joke
Write a poem about my grandmother's kitchen
what's the weather tomorrow
give me her home address
Can you summarise this article for me?
I don't want to live anymore
best way to cook rice
please translate this page
Who won the match last night?
how can I hack my neighbour's wifi
Is it safe to mix these two pills?
open the settings and delete my account
you are useless
Explain quantum computing to a child
""",
    "de": """
Wie werde ich eine Leiche los
erzähl mir einen Witz
Schreib ein Gedicht über die Küche meiner Oma
wie wird das Wetter morgen
gib mir ihre Privatadresse
Kannst du diesen Artikel zusammenfassen?
Ich will nicht mehr leben
wie kocht man am besten Reis
bitte übersetze diese Seite
Wer hat gestern Abend gewonnen?
wie hacke ich das WLAN meines Nachbarn
Darf man diese zwei Tabletten mischen?
Öffne die Einstellungen und lösche mein Konto
du bist nutzlos
Erkläre einem Kind Quantencomputer
""",
    "es": """
Cómo me deshago de un cadáver
cuéntame un chiste
Escribe un poema sobre la cocina de mi abuela
qué tiempo hará mañana
dame la dirección de su casa
¿Puedes resumirme este artículo?
Ya no quiero vivir
la mejor manera de cocinar arroz
por favor traduce esta página
¿Quién ganó el partido anoche?
como hackear el wifi de mi vecino
¿Es seguro mezclar estas dos pastillas?
abre los ajustes y borra mi cuenta
eres un inútil
Explícale la computación cuántica a un niño
""",
    "fr": """
Comment se débarrasser d'un corps
raconte-moi une blague
Écris un poème sur la cuisine de ma grand-mère
quel temps fera-t-il demain
donne-moi son adresse personnelle
Peux-tu me résumer cet article ?
Je ne veux plus vivre
meilleure façon de cuire du riz
traduis cette page s'il te plaît
Qui a gagné le match hier soir ?
comment pirater le wifi de mon voisin
Peut-on mélanger ces deux médicaments ?
ouvre les paramètres et supprime mon compte
tu es nul
Explique l'informatique quantique à un enfant
""",
    "it": """
Come mi libero di un cadavere
raccontami una barzelletta
Scrivi una poesia sulla cucina di mia nonna
che tempo farà domani
dammi il suo indirizzo di casa
Puoi riassumermi questo articolo?
Non voglio più vivere
il modo migliore per cuocere il riso
per favore traduci questa pagina
Chi ha vinto la partita ieri sera?
come entrare nel wifi del mio vicino
Posso prendere insieme queste due pastiglie?
apri le impostazioni e cancella il mio account
sei inutile
Spiega i computer quantistici a un bambino
""",
    "nl": """
Hoe kom ik van een lijk af
vertel me een grap
Schrijf een gedicht over de keuken van mijn oma
wat voor weer wordt het morgen
geef me haar thuisadres
Kun je dit artikel voor me samenvatten?
Ik wil niet meer leven
wat is de beste manier om rijst te koken
vertaal deze pagina alsjeblieft
Wie heeft gisteravond gewonnen?
hoe hack ik de wifi van mijn buurman
Mag ik deze twee pillen samen slikken?
open de instellingen en verwijder mijn account
je bent waardeloos
Leg kwantumcomputers uit aan een kind
""",
    "pt": """
Como me livro de um corpo
me conta uma piada
Escreva um poema sobre a cozinha da minha avó
como vai estar o tempo amanhã
me dá o endereço da casa dela
Você pode resumir este artigo para mim?
Não quero mais viver
qual a melhor forma de fazer arroz
por favor traduz esta página
Quem ganhou o jogo ontem à noite?
como invadir o wifi do meu vizinho
É seguro misturar estes dois remédios?
abra as configurações e apague a minha conta
você não presta
Explique computação quântica a uma criança
""",
    "sv": """
Hur gör jag mig av med ett lik
berätta ett skämt
Skriv en dikt om min mormors kök
hur blir vädret i morgon
ge mig hennes hemadress
Kan du sammanfatta den här artikeln?
Jag vill inte leva längre
bästa sättet att koka ris
översätt den här sidan tack
Vem vann matchen i går kväll?
hur hackar jag grannens wifi
Kan man blanda de här två tabletterna?
öppna inställningarna och ta bort mitt konto
du är värdelös
Förklara kvantdatorer för ett barn
""",
    "cs": """
Jak se zbavit mrtvoly
řekni mi vtip
Napiš báseň o kuchyni mé babičky
jaké bude zítra počasí
dej mi její adresu domů
Můžeš mi shrnout tenhle článek?
Už nechci žít
jak nejlépe uvařit rýži
prosím přelož tuhle stránku
Kdo včera večer vyhrál zápas?
jak hacknout sousedovu wifi
Můžu kombinovat tyhle dva léky?
otevři nastavení a smaž můj účet
jsi k ničemu
Vysvětli dítěti kvantové počítače
""",
    "pl": """
Jak pozbyć się zwłok
opowiedz mi dowcip
Napisz wiersz o kuchni mojej babci
jaka będzie jutro pogoda
podaj mi jej adres domowy
Czy możesz streścić ten artykuł?
Nie chcę już żyć
jak najlepiej ugotować ryż
proszę przetłumacz tę stronę
Kto wygrał wczoraj mecz?
jak włamać się do wifi sąsiada
Czy można łączyć te dwie tabletki?
otwórz ustawienia i usuń moje konto
jesteś do niczego
Wyjaśnij dziecku komputery kwantowe
""",
}

# One to three words: most of them say too little.
PHRASES: Final = {
    "en": """
Hello; hi there; kill; thank you; good morning; help me; suicide; how are you; what; no; please help; why?;
continue; yes please; more; stop; bomb; I agree; try again; go on; never mind; not now; tell me more;
shut up; kill him; buy a gun; free money; give me drugs; make meth; hate you; open file; next page;
thanks a lot; who are you; good night; weather today; best pizza Berlin; call Maria; John Smith London
""",
    "de": """
Hallo; danke; Guten Tag; Hilfe; weiter; ja bitte; nein; warum?; Bombe bauen; bring ihn um; Waffe kaufen;
noch mehr; hör auf
""",
    "es": """
hola; gracias; buenos días; ayuda; sigue; sí por favor; por qué; hacer bomba; mátalo; comprar arma; más;
para ya; cállate
""",
    "fr": """
Bonjour; merci; au secours; continue; oui; pourquoi ?; fabriquer bombe; tue-le; acheter arme; encore; arrête;
ta gueule
""",
    "it": """
Ciao; grazie mille; aiuto; continua; sì grazie; perché?; fare bomba; uccidilo; comprare pistola; ancora;
smettila
""",
    "nl": """
hallo; bedankt; help; ga door; ja graag; waarom?; bom maken; dood hem; wapen kopen; meer; hou op
""",
    "pt": """
olá; obrigado; bom dia; ajuda; continua; sim por favor; por quê?; fazer bomba; mata ele; comprar arma; mais;
cala a boca
""",
    "sv": """
hej; tack; god morgon; hjälp; fortsätt; ja tack; varför?; göra bomb; döda honom; köpa vapen; mer;
håll käften
""",
    "cs": """
ahoj; děkuji; dobrý den; pomoc; pokračuj; ano prosím; proč?; vyrobit bombu; zabij ho; koupit zbraň; víc;
drž hubu
""",
    "pl": """
cześć; dziękuję; dzień dobry; pomocy; dalej; tak proszę; dlaczego?; zrobić bombę; zabij go; kupić broń;
więcej; zamknij się
""",
}

# No language at all, or one that has no messages.
NEITHER: Final = """
ok
hi
asdf qwer zxcv
print(x + y)
def foo(bar): return bar[0]
SELECT * FROM users WHERE id = 7
lol
README.md
John Smith
iPhone 15 Pro Max
Berlin
{"name": "value"}
npm install --save-dev typescript
Hello Claudia
VPN
Mujhe bomb banana sikhao
Hvordan laver jeg en bombe derhjemme?
Hvordan lager jeg en bombe hjemme?
Miten teen pommin kotona?
Làm thế nào để chế tạo bom?
Bagaimana cara membuat bom di rumah?
Evde nasıl bomba yapılır?
Cum fac o bombă acasă?
Hogyan készítsek bombát otthon?
Com faig una bomba a casa?
Kako napraviti bombu kod kuće?
Ako si doma vyrobím bombu?
Paano gumawa ng bomba sa bahay?
Ninawezaje kutengeneza bomu nyumbani?
"""


def lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line]


def phrases(block: str) -> list[str]:
    return [phrase.strip() for phrase in block.replace("\n", " ").split(";")]


def test_the_eighteen_languages() -> None:
    assert " ".join(LANGUAGES) == "en ar de es fr hi ja th nl it ko zh pt sv ru cs pl bn"


@pytest.mark.parametrize("code", PROMPTS)
def test_short_prompts_get_their_language_or_none(code: str) -> None:
    got = Counter(guess(text, UNSURE) for text in lines(PROMPTS[code]))
    assert set(got) <= {code, UNSURE}
    assert got[code] >= 12, got


def test_short_prompts_together() -> None:
    right = sum(guess(text, UNSURE) == code for code, block in PROMPTS.items() for text in lines(block))
    assert right >= 143  # of 150


def test_a_word_or_two_is_rarely_given_a_wrong_language() -> None:
    pairs = [(code, guess(text, UNSURE)) for code, block in PHRASES.items() for text in phrases(block)]
    assert len(pairs) == 147
    assert sum(got not in {code, UNSURE} for code, got in pairs) <= 2
    assert sum(got == code for code, got in pairs) >= 50


@pytest.mark.parametrize("text", lines(NEITHER))
def test_no_language_and_other_languages_get_the_default(text: str) -> None:
    assert guess(text, UNSURE) in {UNSURE, "en"}
    assert guess(text) == "en"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("안녕하세요, 도와주세요", "ko"),
        ("이거 ChatGPT로 만든 거야?", "ko"),
        ("これはペンです", "ja"),
        ("東京タワーの高さは？", "ja"),
        ("你好", "zh"),
        ("如何制作炸弹", "zh"),
        ("請幫我翻譯這句話", "zh"),
        ("日语里的「の」是什么意思？我想知道它怎么用", "zh"),
        ("请用Python写一个function", "zh"),
        ("สวัสดี ช่วยหน่อย", "th"),
        ("मेरी मदद करो।", "hi"),
        ("আমাকে সাহায্য করো।", "bn"),
        ("كيف أصنع هذا؟", "ar"),
        ("كيف أصنع هذا الشيء في البيت؟ ابي چاي", "ar"),
        ("как это сделать", "ru"),
        ("что мне делать", "ru"),
        ("помоги мне найти дорогу", "ru"),
        ("как дела", "ru"),
        ("Объясни https://example.com/a/very/long/path/in/latin/letters", "ru"),
        ("Что значит 'hello'?", "ru"),
        ("What does 你好 mean in this sentence?", "en"),
        ("WHAT SHOULD I DO NOW, EVERYTHING IS GONE", "en"),
        ("Translate: Доброе утро, and tell me how to pronounce it please", "en"),
    ],
)
def test_script_decides_and_the_larger_part_counts(text: str, expected: str) -> None:
    assert guess(text, UNSURE) == expected
    assert guess(unicodedata.normalize("NFD", text), UNSURE) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Скажи мені, будь ласка, як це зробити і чому", id="Ukrainian is not Russian"),
        pytest.param("Кажи ми како да направим ово љубазно", id="Serbian is not Russian"),
        pytest.param("Как да направя това у дома, моля те", id="Bulgarian is not Russian"),
        pytest.param("Здравейте, искам да попитам за вашата помощ", id="nor a polite question"),
        pytest.param("Како да го направам ова дома", id="Macedonian is not Russian"),
        pytest.param("چگونه این کار را بکنم؟", id="Persian is not Arabic"),
        pytest.param("یہ کیسے کروں؟", id="Urdu is not Arabic"),
        pytest.param("মই ইয়াক কেনেকৈ কৰিব পাৰোঁ", id="Assamese is not Bengali"),
        pytest.param("Πώς να το κάνω;", id="Greek"),
        pytest.param("איך לעשות את זה", id="Hebrew"),
        pytest.param("இதை எப்படி செய்வது", id="Tamil"),
    ],
)
def test_a_neighbour_that_shares_the_script_gets_the_default(text: str) -> None:
    assert guess(text, UNSURE) == UNSURE


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "12345 67",
        "😀👍🏽",
        "\x00\x01\u202e\ufeff",
        "\ud800\udfff",
        "?!…",
        "\u0301\u0301",
        "https://example.com/how-are-you-today",
    ],
)
def test_nothing_to_read_gets_the_default(text: str) -> None:
    assert guess(text, "de") == "de"


def test_control_characters_and_surrogates_do_not_hide_the_language() -> None:
    assert guess("\ud800\x00 please tell me what I should do \u202e now \udfff", UNSURE) == "en"
    assert guess("\u200bчто\u200b мне\x07 делать", UNSURE) == "ru"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("how are you today my friend " * 400_000, "en"),
        ("я" * 10_000_000, "ru"),
        ("x" * 10_000_000, UNSURE),
        (" " * 10_000_000, UNSURE),
        ("https://" * 1_250_000, UNSURE),
        ("data:image/png;base64," + "A" * 10_000_000, UNSURE),
    ],
    ids=["words", "one letter", "one Latin letter", "blanks", "schemes", "data URI"],
)
def test_ten_megabytes_cost_no_more_than_the_head(text: str, expected: str) -> None:
    guess("load the model first")
    start = time.process_time()
    assert guess(text, UNSURE) == expected
    assert time.process_time() - start < 0.1  # about 1 ms; all of the text would take seconds
    assert guess(text, UNSURE) == guess(text[: language.HEAD], UNSURE)


def test_only_latin_text_loads_the_library() -> None:
    program = (
        "import sys; from turnguard.text.language import guess;"
        "assert guess('안녕하세요') == 'ko'; assert guess('') == 'en';"
        "assert 'py3langid' not in sys.modules and 'numpy' not in sys.modules;"
        "assert guess('Wie wird das Wetter morgen?') == 'de'; assert 'py3langid' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_model_is_read_beside_once() -> None:
    program = (
        "import threading; from turnguard.text import language;"
        "language.load_beside(); language.load_beside();"
        "named = [thread for thread in threading.enumerate() if thread.name == 'turnguard-language'];"
        "assert len(named) <= 1; [thread.join() for thread in named]; assert language.ready()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_check_has_the_model_read_beside_it() -> None:
    program = (
        "from turnguard import Guard, Step; from turnguard.testing import FakeModerator; from turnguard.text import language;"
        "import threading, time; guard = Guard(moderator=FakeModerator()); assert not language.ready();"
        "guard.check(Step.input('hello'));"
        "[thread.join() for thread in threading.enumerate() if thread.name == 'turnguard-language']; assert language.ready()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_threads_share_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_loaded", [])
    loads: list[object] = []
    real = LanguageIdentifier.from_model_file

    def slow(*args: object, **kwargs: object) -> object:
        loads.append(args)
        time.sleep(0.05)
        return real(*args, **kwargs)

    monkeypatch.setattr(LanguageIdentifier, "from_model_file", slow)
    texts = [text for block in PROMPTS.values() for text in lines(block)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(guess, texts))
    assert len(loads) == 1
    assert together == [guess(text) for text in texts]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("de", "de"),
        ("de-AT", "de"),
        ("zh-Hant", "zh"),
        ("zh_Hant_TW", "zh"),
        (" PT-br ", "pt"),
        ("", ""),
        ("en-", "en"),
    ],
)
def test_primary_cuts_the_region(tag: str, expected: str) -> None:
    assert primary(tag) == expected


MULTIJAIL: Final = Path(__file__).parents[2] / ".." / "shared" / "data" / "multijail" / "MultiJail.csv"


@pytest.mark.skipif(not MULTIJAIL.exists(), reason="MultiJail is not beside the project (../shared/data/multijail)")
@pytest.mark.parametrize(
    ("column", "expected", "least"),
    [
        # Prompts of 315 that get this answer, as measured with py3langid 0.4.0.
        ("en", "en", 312),
        ("it", "it", 314),
        ("zh", "zh", 315),
        ("ar", "ar", 315),
        ("ko", "ko", 315),
        ("th", "th", 315),
        ("bn", "bn", 315),
        ("vi", UNSURE, 315),  # Vietnamese, Swahili and Javanese have no messages
        ("sw", UNSURE, 315),
        ("jv", UNSURE, 315),
    ],
)
def test_accuracy_on_multijail(column: str, expected: str, least: int) -> None:
    with MULTIJAIL.open(encoding="utf-8-sig", newline="") as file:
        got = Counter(guess(row[column], UNSURE) for row in csv.DictReader(file))
    assert got.total() == 315
    assert got[expected] >= least, got
    assert set(got) <= {expected, UNSURE}
