"""Tables of Unicode 15.0, written by `scripts/unicode_tables.py` from ICU 72.1. Not edited by hand.

Unicode data files: Copyright 1991-present Unicode, Inc., Unicode License v3 (https://www.unicode.org/license.txt).
"""

# fmt: off
# ruff: noqa: E501

from typing import Final

UNICODE_VERSION: Final = "15.0"

IGNORABLE: Final = "\xad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
"""Default_Ignorable_Code_Point, as the inside of a character class."""

OTHERS: Final = (
    "\u037f\u0391\u0392\u0395\u0396\u0397\u0398\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03b1\u03b2"
    "\u03b3\u03b5\u03b6\u03b7\u03b8\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c3\u03c4\u03c5\u03c7\u03dc\u03dd\u03f3"
    "\u03fa\u03fb\u0405\u0406\u0408\u0410\u0411\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425"
    "\u042c\u0430\u0431\u0432\u0433\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u044c\u0455\u0456"
    "\u0458\u045b\u0461\u0462\u0463\u0472\u0473\u0474\u0475\u047d\u048c\u048d\u0493\u049a\u049b\u049e\u049f\u04a2"
    "\u04a3\u04aa\u04ab\u04ac\u04ad\u04ae\u04af\u04b0\u04b1\u04b2\u04b3\u04bb\u04bd\u04bf\u04c0\u04c7\u04c8\u04c9"
    "\u04ca\u04cd\u04ce\u04cf\u04e8\u04e9\u0501\u050c\u050d\u051b\u051c\u051d\u054d\u054f\u0555\u0561\u0563\u0566"
    "\u0570\u0578\u057c\u057d\u057f\u0581\u0584\u0585\u05d5\u05d8\u05df\u05e1\u0627\u0647\u0673\u06be\u06c1\u06d5"
    "\u06ff\u07ca\u0b20\u0d20\u101d\u10e7\u10ff\u1200\u12d0\u13a0\u13a1\u13a2\u13a5\u13a9\u13aa\u13ab\u13ac\u13b3"
    "\u13b7\u13bb\u13bd\u13be\u13c0\u13c2\u13c3\u13cc\u13cf\u13d2\u13d4\u13d5\u13d9\u13da\u13de\u13df\u13e2\u13e6"
    "\u13e7\u13eb\u13f2\u13f3\u13f4\u13fa\u13fb\u13fc\u142f\u144c\u146d\u146f\u1472\u1473\u148d\u14aa\u1541\u157c"
    "\u157d\u1587\u15af\u15b4\u15c5\u15de\u15ea\u15f0\u15f7\u16b7\u16c1\u16d5\u16d6\u1c80\u1c82\u1c83\u1c84\u1c85"
    "\u1c87\u1d26\u1d29\u2c85\u2c8e\u2c8f\u2c92\u2c93\u2c94\u2c95\u2c98\u2c99\u2c9a\u2c9b\u2c9e\u2c9f\u2ca2\u2ca3"
    "\u2ca4\u2ca5\u2ca6\u2ca7\u2ca8\u2ca9\u2cac\u2cad\u2cd0\u2cd1\u2d31\u2d38\u2d39\u2d41\u2d4f\u2d54\u2d55\u2d5d"
    "\ua4d0\ua4d1\ua4d2\ua4d3\ua4d4\ua4d6\ua4d7\ua4d9\ua4da\ua4dc\ua4dd\ua4df\ua4e0\ua4e1\ua4e2\ua4e3\ua4e6\ua4e7"
    "\ua4ea\ua4eb\ua4ec\ua4ee\ua4f0\ua4f2\ua4f3\ua4f4\ua647\ua695\ua6df\uab70\uab71\uab72\uab74\uab75\uab79\uab7a"
    "\uab7b\uab7c\uab81\uab83\uab87\uab8b\uab8d\uab8e\uab90\uab92\uab93\uab9c\uab9f\uaba2\uaba4\uaba5\uaba9\uabaa"
    "\uabae\uabaf\uabb2\uabb6\uabb7\uabbb\U00010282\U00010286\U00010287\U0001028a\U00010290\U00010292\U00010295"
    "\U00010296\U00010297\U000102a0\U000102a1\U000102a2\U000102a5\U000102ab\U000102b0\U000102b1\U000102b2"
    "\U000102b4\U000102cf\U00010301\U00010302\U00010309\U00010311\U00010315\U00010317\U00010404\U00010415"
    "\U0001041b\U00010420\U0001042c\U0001043d\U00010443\U00010448\U000104b4\U000104c2\U000104ce\U000104dc"
    "\U000104ea\U000104f6\U00010513\U00010516\U00010518\U0001051c\U0001051d\U00010525\U00010526\U00010527"
    "\U000114c5\U00011706\U0001170a\U0001170e\U0001170f\U000118a0\U000118a2\U000118a3\U000118a4\U000118a6"
    "\U000118a9\U000118ae\U000118b2\U000118b5\U000118b8\U000118bc\U000118c0\U000118c1\U000118c2\U000118c3"
    "\U000118c4\U000118c6\U000118c8\U000118c9\U000118ce\U000118d2\U000118d5\U000118d7\U000118d8\U000118dc"
    "\U00016f08\U00016f0a\U00016f16\U00016f28\U00016f35\U00016f3a\U00016f40\U00016f42\U00016f43"
)
"""Letters of other scripts that are confusable with an ASCII letter."""

OTHERS_PLAIN: Final = (
    "JABEZHOIKMNOPTYXabyeznOikmvopotuxFfjMmSIJAbBEKMHOPCTYXbabbrekmhopctyxbsijhwbbOoVvwbbrKkKkHhCcTtYyYyXxheeIHhH"
    "hMmiOodGgqWwUSOwqqhnnusgfolvlololoooolOooyoUODRTiYAJEWMHYOGhZUbRWSVSLCPKdOhGBhgbVUPdbbJLxHxRbFADDMBXlKMboctt"
    "brprHhIiKkMmNnOoPpCcTtYyXxLlOVEOlOQXBPdDTGKJCZFMNLSRVHWXYAElOUihVdrtoiyajerwmhyoghzubrwsvslcpkdoBEFlXOPSTABC"
    "FOMTYXHBClMTXOCLSoclsROUrouNOKCVFLXwvwwwVFLYEZELOUTvsFizeozeloouyVTLlRSAUY"
)
"""What `OTHERS` stand for, in the same order."""

LATIN: Final = (
    "\u0184\u018d\u0196\u01a6\u01bd\u01c0\u0251\u0261\u0262\u0263\u0269\u026a\u026f\u0274\u0280\u028b\u028f\u0299"
    "\u029c\u029f\u1d00\u1d04\u1d05\u1d07\u1d0a\u1d0b\u1d0d\u1d0f\u1d11\u1d18\u1d1b\u1d1c\u1d20\u1d21\u1d22\u1d83"
    "\u1d8c\u1e9d\u1eff\ua730\ua731\ua798\ua799\ua79f\ua7af\ua7b2\ua7b3\ua7b4\uab32\uab35\uab3d\uab47\uab48\uab4e"
    "\uab52\uab5a"
)
"""Latin letters that are confusable with an ASCII letter, small capitals among them."""

LATIN_PLAIN: Final = (
    "bglRslaggyiiwnruybhlacdejkmooptuvwzgyfyfsFfuqJXBeforruuy"
)
"""What `LATIN` stand for, in the same order."""

NAMED: Final = (
    "\u249c\u249d\u249e\u249f\u24a0\u24a1\u24a2\u24a3\u24a4\u24a5\u24a6\u24a7\u24a8\u24a9\u24aa\u24ab\u24ac\u24ad"
    "\u24ae\u24af\u24b0\u24b1\u24b2\u24b3\u24b4\u24b5\U0001f110\U0001f111\U0001f112\U0001f113\U0001f114\U0001f115"
    "\U0001f116\U0001f117\U0001f118\U0001f119\U0001f11a\U0001f11b\U0001f11c\U0001f11d\U0001f11e\U0001f11f"
    "\U0001f120\U0001f121\U0001f122\U0001f123\U0001f124\U0001f125\U0001f126\U0001f127\U0001f128\U0001f129"
    "\U0001f150\U0001f151\U0001f152\U0001f153\U0001f154\U0001f155\U0001f156\U0001f157\U0001f158\U0001f159"
    "\U0001f15a\U0001f15b\U0001f15c\U0001f15d\U0001f15e\U0001f15f\U0001f160\U0001f161\U0001f162\U0001f163"
    "\U0001f164\U0001f165\U0001f166\U0001f167\U0001f168\U0001f169\U0001f170\U0001f171\U0001f172\U0001f173"
    "\U0001f174\U0001f175\U0001f176\U0001f177\U0001f178\U0001f179\U0001f17a\U0001f17b\U0001f17c\U0001f17d"
    "\U0001f17e\U0001f17f\U0001f180\U0001f181\U0001f182\U0001f183\U0001f184\U0001f185\U0001f186\U0001f187"
    "\U0001f188\U0001f189\U0001f18a\U0001f1e6\U0001f1e7\U0001f1e8\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1ec"
    "\U0001f1ed\U0001f1ee\U0001f1ef\U0001f1f0\U0001f1f1\U0001f1f2\U0001f1f3\U0001f1f4\U0001f1f5\U0001f1f6"
    "\U0001f1f7\U0001f1f8\U0001f1f9\U0001f1fa\U0001f1fb\U0001f1fc\U0001f1fd\U0001f1fe\U0001f1ff"
)
"""Symbols that show a letter by their name and have no decomposition."""

NAMED_PLAIN: Final = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZPABC"
    "DEFGHIJKLMNOPQRSTUVWXYZ"
)
"""What `NAMED` stand for, in the same order."""

REGIONS: Final = (
    "AC AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW "
    "BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CP CR CU CV CW CX CY CZ DE DG DJ DK DM DO DZ EA EC EE EG EH ER ES "
    "ET EU FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU IC ID IE "
    "IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC "
    "MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE "
    "PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV "
    "SX SY SZ TA TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM UN US UY UZ VA VC VE VG VI VN VU WF WS "
    "XK YE YT ZA ZM ZW"
)
"""Regions that have an emoji flag."""

SUBDIVISIONS: Final = "gbeng gbsct gbwls"
"""Subdivisions that have an emoji flag of tag characters."""
