# SPDX-License-Identifier: MIT
"""Timed phones of any writer become the same segments; what cannot be used is one line."""

import json

import pytest

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.phones.files import read_phones, write_phones
from facetalk_hf.phones.reading import REDUCED, detect_alphabet, to_segments
from facetalk_hf.phones.segments import Segment


WANTED = [
    Segment("pau", 0, 0.1), Segment("m", 0.1, 0.2), Segment("aa", 0.2, 0.4), Segment("pau", 0.4, 0.5),
    Segment("b", 0.5, 0.6),
]  # fmt: skip
LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.6
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.6
        intervals: size = 1
        intervals [1]:
            xmin = 0.1
            xmax = 0.6
            text = "ma ""2"" b"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.6
        intervals: size = 5
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.2
            text = "M"
        intervals [3]:
            xmin = 0.2
            xmax = 0.4
            text = "AA1"
        intervals [4]:
            xmin = 0.4
            xmax = 0.5
            text = "sp"
        intervals [5]:
            xmin = 0.5
            xmax = 0.6
            text = "B"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.6
<exists>
1
"IntervalTier"
"Sprecher"
0
0.6
3
0.1
0.2
"m"
0.2
0.4
"aa"
0.5
0.6
"b"
"""
ROWS = [["m", 0.1, 0.2], ["aa", 0.2, 0.4], ["b", 0.5, 0.6]]
FILES = {
    "long.TextGrid": LONG.encode(),
    "utf16.TextGrid": LONG.encode("utf-16"),
    "short.TextGrid": SHORT.encode(),
    "rows.csv": b"m,0.1,0.2\naa,.2,.4\nb,0.5,0.6\n",
    "turned.csv": b"\xef\xbb\xbf0.5,0.6,b\n0.2,0.4,aa\n0.1,0.2,m\n",
    "headings.csv": b"Begin,End,Label,Type\n0.1,0.6,mab,words\n.1,.2,M,phones\n.2,.4,AA1,phones\n.5,.6,B,phones\n",
    "labels.txt": b"0.1\t0.2\tm\n0.2\t0.4\taa\n0.5\t0.6\tb\n",
    "blanks.lab": b"0.1 0.2 m\n0.2 0.4 aa\n0.5 0.6 b\n",
    "durations.tsv": b"phoneme\tstart\tduration\nm\t0.1\t0.1\naa\t0.2\t0.2\nb\t0.5\t0.1\n",
    "lists.json": json.dumps(ROWS).encode(),
    "objects.json": json.dumps({"phones": [{"Phone": p, "start": s, "end": e} for p, s, e in ROWS]}).encode(),
    "tiers.json": json.dumps({"tiers": {"phones": {"entries": [[s, e, p] for p, s, e in ROWS]}}}).encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_every_writer_gives_the_same_segments(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    found = read_phones(tmp_path / name)
    assert [segment.phone for segment in found] == [segment.phone for segment in WANTED]
    for mine, theirs in zip(found, WANTED, strict=True):
        assert mine[1:] == pytest.approx(theirs[1:], abs=1e-6)


def test_written_phones_are_read_again(tmp_path):
    write_phones(WANTED, tmp_path / "out.json")
    assert read_phones(tmp_path / "out.json") == WANTED


@pytest.mark.parametrize(
    ("names", "alphabet"),
    [(("M", "AH0", "SIL"), "arpabet"), (("axr", "dx", "b"), "arpabet"), (("m", "ax", "uy"), "common"),
     (("m", "ə", "aɪ", "tʃ"), "ipa"), (("m", "a", "b"), "ipa"), (("+SPN+", "K", "ER"), "arpabet")],
)  # fmt: skip
def test_alphabets_are_told_by_their_names(names, alphabet):
    assert detect_alphabet(names) == alphabet


def test_an_affricate_of_ipa_and_a_schwa_of_arpabet():
    assert [s.phone for s in to_segments([("t͡ʃ", 0, 0.1), ("aɪ", 0.1, 0.3)])] == ["ch", "ay"]
    short = to_segments([("AH", 0, REDUCED - 0.01), ("AH", 0.1, 0.2), ("AH0", 0.2, 0.4), ("AH1", 0.4, 0.43)])
    assert [s.phone for s in short if s.phone != "pau"] == ["ax", "ah", "ax", "ah"]


BAD = {
    "empty.csv": b"",
    "no phones.json": b"[]",
    "broken.json": b'[["m", 0, 0.1],',
    "many.json": json.dumps({"a": {"phones": ROWS}, "b": {"phones": ROWS}}).encode(),
    "words.csv": b"m,zero,0.1\n",
    "backwards.csv": b"m,0.2,0.1\n",
    "negative.csv": b"m,-0.2,0.1\n",
    "nan.csv": b"m,0,nan\n",
    "overlap.csv": b"m,0,0.2\nb,0.1,0.3\n",
    "milliseconds.csv": b"m,0,80\nb,80,150\naa,150,22000\n",
    "sampa.csv": b"m,0,0.1\n@,0.1,0.2\n",
    "columns.csv": b"phone,when\nm,0.1\n",
    "short line.csv": b"phone,start,end\nm,0.1\n",
    "cut.TextGrid": LONG[:-40].encode(),
    "endless.TextGrid": SHORT.replace("\n3\n", "\n1e999\n").encode(),  # found by fuzzing
    "tiers.TextGrid": LONG.replace('"phones"', '"other"').encode(),
    "picture.csv": b"\x89PNG\r\n\x1a\n\x00\xff\xfe",
    "numbers.json": b"[1, 2, 3]",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_odd_is_one_line_that_names_the_file(tmp_path, name):
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(FaceTalkError) as caught:
        read_phones(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_unknown_alphabets(tmp_path):
    with pytest.raises(FaceTalkError, match="nowhere"):
        read_phones(tmp_path / "nowhere.csv")
    with pytest.raises(FaceTalkError, match="sampa"):
        to_segments([("m", 0, 1)], "sampa")
    with pytest.raises(FaceTalkError, match="xyz"):
        to_segments([("xyz", 0, 1)], "arpabet")


@pytest.mark.parametrize(
    ("written", "phones"),
    [
        ("w ˌä t ä ɕ ˈi h o̞ ˈũ s ɯᵝ", "w aa t aa sh iy hh oh uw s ih"),  # Japanese: vowels with marks
        ("m ˈɑ1 (en) b ˈiː (cmn) tɕʰ ˈi2", "m aa aa b iy iy ch iy"),  # tones, and where the language changes
    ],
)
def test_other_languages_are_read_as_espeak_writes_them(written, phones):
    rows = [(name, index / 10, (index + 1) / 10) for index, name in enumerate(written.split())]
    assert [segment.phone for segment in to_segments(rows)] == phones.split()


@pytest.mark.parametrize("text", [
    "phone,start,end\nB,%s,1\n", "phone,start,end\n%s,0,1\n", "0 0.3 %s\n", '[["B", 0, "%s"]]', '[["B", 0, %s]]',
    "[%s",
])  # fmt: skip
def test_what_is_long_is_not_quoted_whole(tmp_path, text):
    (tmp_path / "a.csv").write_text(text % ("[" * 3000))
    with pytest.raises(FaceTalkError) as refused:
        read_phones(tmp_path / "a.csv")
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)
