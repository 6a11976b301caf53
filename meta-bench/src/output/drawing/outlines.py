#!/usr/bin/env python3
"""Prepares the outlines of letters for pictures.

To renew them, say after RANGES has changed: unpack the TrueType fonts of DejaVu 2.37 (the archive
dejavu-fonts-ttf-2.37, from dejavu-fonts.github.io), install fontTools (pip install fonttools), and run

    python3 outlines.py dejavu-fonts-ttf-2.37 > outlines.txt

A line for each character: its code point, its width, and its outline as an SVG path with relative
coordinates, y down, 2048 units to the size of the font. The licence of the font stands above them.
"""

import sys
from pathlib import Path

from fontTools.pens.basePen import BasePen
from fontTools.ttLib import TTFont

RANGES = [
    (0x20, 0x7E), (0xA0, 0x17F), (0x18F, 0x192), (0x218, 0x21B), (0x2C6, 0x2DD), (0x370, 0x3FF),
    (0x2010, 0x2015), (0x2018, 0x201E), (0x2020, 0x2022), (0x2026, 0x2026), (0x2030, 0x2033),
    (0x2039, 0x203A), (0x2070, 0x208E), (0x20AC, 0x20AC), (0x2113, 0x2113), (0x211D, 0x211D),
    (0x2190, 0x2199), (0x21D0, 0x21D4), (0x2200, 0x220D), (0x2211, 0x2213), (0x2217, 0x221E),
    (0x2225, 0x222B), (0x2248, 0x2249), (0x2260, 0x2265), (0x226A, 0x226B), (0x2282, 0x2287),
    (0x2295, 0x2299), (0x22A4, 0x22A5), (0x22C5, 0x22C5), (0x25A0, 0x25A1), (0x25B2, 0x25BD),
    (0x25CB, 0x25CF), (0x2605, 0x2606), (0x2713, 0x2718), (0xFFFD, 0xFFFD),
]

HEAD = "Outlines of DejaVu Sans 2.37, written by outlines.py. Code point, width, path; 2048 units to the size."

# What follows in the licence concerns another font of the archive.
LAST = "TeX Gyre DJV Math"


class PathPen(BasePen):
    """Writes quadratic curves and lines, relative and with y down."""

    def __init__(self, glyphs):
        super().__init__(glyphs)
        self.path, self.at = [], (0, 0)

    def put(self, letter, *points):
        numbers = []
        for x, y in points:
            numbers += [round(x) - self.at[0], self.at[1] - round(y)]
        x, y = points[-1]
        self.at = (round(x), round(y))
        text = letter
        for index, number in enumerate(numbers):
            text += str(number) if index == 0 or number < 0 else f" {number}"
        self.path.append(text)

    def _moveTo(self, point):
        self.put("m", point)
        self.first = self.at

    def _lineTo(self, point):
        self.put("l", point)

    def _qCurveToOne(self, control, point):
        self.put("q", control, point)

    def _closePath(self):
        self.path.append("z")
        self.at = self.first


folder = Path(sys.argv[1])
font = TTFont(folder / "ttf" / "DejaVuSans.ttf")
assert font["head"].unitsPerEm == 2048
licence = (folder / "LICENSE").read_text().split(LAST)[0].strip()
for line in [HEAD, "", *licence.splitlines()]:
    print(f"# {line}".rstrip())
names, glyphs = font.getBestCmap(), font.getGlyphSet()
for first, last in RANGES:
    for code in range(first, last + 1):
        if code in names:
            pen = PathPen(glyphs)
            glyphs[names[code]].draw(pen)
            print(f"{code:04X} {glyphs[names[code]].width} {''.join(pen.path)}".rstrip())
