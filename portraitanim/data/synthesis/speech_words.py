# ruff: noqa: SIM905 (word lists are easier to read without quotes)
"""What synthetic talkers say and in whose voice: words that use all lips can do, languages, voices."""

from __future__ import annotations

WORDS = tuple(
    """
    people time about water morning house mother father music paper beautiful summer winter because between moment
    problem number maybe family money member bottle happy apple open visit five seven evening river famous often office
    coffee travel voice love above over never ever have give move leave world work word would woman window always away
    quick question quiet queen swim sweet tower flower shoe should sugar show fish push wash change chair teacher
    picture nature jump judge orange bridge vision thing think thank three through both mouth south teeth this that
    these other weather together breathe look book good food moon soon room blue true you few new use huge cute school
    fruit juice group go no so home phone road boat coat slow low know old cold gold boy enjoy point noise day say way
    make take name place rain train wait great eight they my sky fly high light night right eye car far start dark heart
    star hard large bar yard park cat man hand black back bad red head bread said friend end tell well help best west
    see tree green sea eat read feel sleep week big sit milk city busy live still little bring spring sing king long
    song strong wrong young hung dog hot stop not box watch want law saw talk walk fall ball tall more door four horse
    short north sun cup come some brother run fun much such bus butter but hello yes please sorry today yesterday
    tomorrow tonight remember forget believe understand amazing wonderful important different information development
    government probably possibly absolutely everybody somebody nobody baby bubble
    """.split()
)

SMALL_WORDS = tuple(
    "the a and of to in is was for on with as at by from or but if we he she they it my your his her".split()
)

LANGUAGES = (
    *("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "de", "fr", "es", "it", "pt-br", "pl", "nl", "sv", "ro"),
    *("cs", "tr", "fi", "hu", "id", "sw", "da", "cmn"),
)

VARIANTS = (
    *("", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+m8", "+f1", "+f2", "+f3", "+f4", "+f5"),
    *("+klatt", "+klatt2", "+klatt3", "+klatt4", "+Andy", "+Annie", "+linda", "+max", "+steph", "+michel", "+adam"),
    *("+belinda", "+john", "+victor", "+paul", "+Alicia", "+rob", "+ed", "+Denis", "+anika"),
)

ONSETS = tuple("b p m f v w t d n s l r k g h z sh ch y bl pr st tr fl sp br pl".split())
VOWELS = tuple("a e i o u a e i o u ai ou ei".split())
CODAS = ("", "", "", "n", "m", "s", "l", "r", "t", "p", "f")
"""Parts of syllables, some twice: the more lips have to do, the more often."""

PINYIN_ONSETS = tuple("b p m f d t n l g k h zh ch sh".split())
PINYIN_RHYMES = tuple("a ai an ang ao ou ong u uo".split())
PINYIN_LABIAL_RHYMES = ("a", "o", "u")
"""What may follow b, p, m and f."""
