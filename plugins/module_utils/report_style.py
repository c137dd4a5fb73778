# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The look of the pages: one style sheet inside the page, no font, script or image from elsewhere.

Every pair of text and ground has a contrast of at least 4.5, in the light and in the dark.
"""

from __future__ import annotations

from html import escape
from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #f4f6f8; --card: #ffffff; --text: #17212b; --soft: #52606d; --edge: #dde3e9;
  --good: #0b7a4b; --good-ground: #e3f5ec; --bad: #b3261e; --bad-ground: #fdeceb;
  --none: #8a5a00; --none-ground: #fdf3dc; --accent: #1f5fbf; --rail: #e6ebf0;
  --p0: #2f6fc1; --p1: #0e8a82; --p2: #7a56c2; --p3: #b8630b; --p4: #1e8e4e; --p5: #6b7785;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #10161d; --card: #18212a; --text: #e6ebf0; --soft: #a3b1bf; --edge: #2c3945;
    --good: #5fd39b; --good-ground: #12312450; --bad: #ff8f85; --bad-ground: #43191750;
    --none: #f0bd5a; --none-ground: #3d2e0f50; --accent: #7fb2ff; --rail: #25303a;
    --p0: #5b97e5; --p1: #2fb3a9; --p2: #a587e8; --p3: #dd8a35; --p4: #46ba78; --p5: #8c9aa8;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans",
    sans-serif;
}
a { color: var(--accent); }
code, .mono {
  font: 0.88em/1.5 ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere;
}
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: 1rem; background: var(--card); padding: .5rem 1rem; z-index: 2; }
.page { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
.brand {
  display: flex; flex-wrap: wrap; gap: .25rem 1rem; justify-content: space-between;
  color: var(--soft); font-size: .9rem; margin-bottom: 1rem;
}
.brand strong { color: var(--text); font-weight: 600; }
.verdict {
  border: 1px solid var(--edge); border-left: 8px solid var(--tone); border-radius: 14px;
  background: var(--card); padding: 1.5rem 1.6rem 1.6rem;
}
.verdict.good { --tone: var(--good); --tone-ground: var(--good-ground); }
.verdict.bad { --tone: var(--bad); --tone-ground: var(--bad-ground); }
.verdict.none { --tone: var(--none); --tone-ground: var(--none-ground); }
.verdict .head { display: flex; gap: 1.1rem; align-items: center; }
.verdict .sign {
  flex: none; width: 60px; height: 60px; border-radius: 50%; background: var(--tone-ground);
  color: var(--tone); display: grid; place-items: center;
}
.verdict .sign svg { width: 34px; height: 34px; }
h1 { font-size: clamp(1.7rem, 4.5vw, 2.5rem); line-height: 1.15; margin: 0;
  letter-spacing: -.02em; overflow-wrap: anywhere; }
h1 .who { color: var(--soft); font-weight: 500; }
.verdict .result { color: var(--tone); }
.lead { margin: 1rem 0 0; font-size: 1.08rem; max-width: 60ch; overflow-wrap: anywhere; }
.todo {
  margin: 1rem 0 0; padding: .8rem 1rem; border-radius: 10px; background: var(--tone-ground);
  overflow-wrap: anywhere;
}
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .9rem;
  margin: 1.4rem 0 0; }
.figure { border-top: 1px solid var(--edge); padding-top: .75rem; }
.figure dt { color: var(--soft); font-size: .86rem; }
.figure dd { margin: 0; font-size: 1.4rem; font-weight: 600; letter-spacing: -.01em; }
.figure dd small { display: block; font-size: .86rem; font-weight: 400; color: var(--soft);
  letter-spacing: 0; }
section { background: var(--card); border: 1px solid var(--edge); border-radius: 14px;
  padding: 1.3rem 1.6rem 1.5rem; margin-top: 1.1rem; }
h2 { font-size: 1.22rem; margin: 0 0 .3rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
section > p { margin: .2rem 0 .9rem; color: var(--soft); max-width: 75ch; }
.ladder { list-style: none; margin: .9rem 0 0; padding: 0; display: grid;
  grid-template-columns: repeat(6, 1fr); gap: .5rem; }
.ladder li { border-top: 5px solid var(--rail); padding-top: .55rem; font-size: .9rem; }
.ladder li b { display: block; font-size: .95rem; }
.ladder .reached { border-color: var(--good); }
.ladder .failed { border-color: var(--bad); }
.ladder .state { font-size: .84rem; }
.ladder .reached .state { color: var(--good); }
.ladder .failed .state { color: var(--bad); }
.ladder .not_tested .state, .ladder .not_tested b { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .94rem; }
caption { text-align: left; color: var(--soft); font-size: .88rem; padding: 0 0 .5rem; }
th, td { text-align: left; vertical-align: top; padding: .55rem .9rem .55rem 0;
  border-bottom: 1px solid var(--edge); }
th { font-weight: 600; }
thead th { color: var(--soft); font-size: .84rem; font-weight: 500; white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
.fit { width: auto; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; }
td.short { white-space: nowrap; }
td .hint { overflow-wrap: anywhere; }
th code { overflow-wrap: normal; }
time { white-space: nowrap; }
td ul { margin: .3rem 0 0; padding-left: 1.1rem; }
.hint { color: var(--soft); margin-top: .3rem; }
.chip { display: inline-flex; align-items: center; gap: .4rem; font-weight: 600;
  white-space: nowrap; font-size: .88rem; }
.chip svg { width: 15px; height: 15px; flex: none; }
.chip.good { color: var(--good); } .chip.bad { color: var(--bad); }
.chip.none { color: var(--none); }
.chip.quiet { color: var(--soft); font-weight: 500; }
tr.group th { padding-top: 1.1rem; color: var(--soft); font-size: .84rem; font-weight: 500; }
tr.noted > * { border-bottom: 0; padding-bottom: .1rem; }
tr.note td { color: var(--soft); padding-top: 0; overflow-wrap: anywhere; }
tr.failed > * { background: var(--bad-ground); }
tr.failed > :first-child { box-shadow: inset 4px 0 0 var(--bad); padding-left: .8rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .2rem; }
figcaption span { font-weight: 400; color: var(--soft); }
svg.spark { display: block; }
svg.plot { width: 100%; height: auto; display: block; }
.grid { stroke: var(--edge); stroke-width: 1; }
.tick { fill: var(--soft); font-size: 14px; }
.target { stroke: var(--none); stroke-width: 1.5; stroke-dasharray: 6 5; }
.target-text { fill: var(--none); font-size: 14px; }
.line { fill: none; stroke: var(--accent); stroke-width: 2.25; stroke-linejoin: round; }
.line.thin { stroke-width: 1.5; opacity: .55; }
.mark.good circle { fill: var(--good); stroke: var(--card); stroke-width: 2; }
.mark.bad path { stroke: var(--bad); stroke-width: 3; stroke-linecap: round; }
.mark.none circle { fill: var(--card); stroke: var(--none); stroke-width: 2.5; }
.rail { fill: var(--rail); }
.p0 { fill: var(--p0); } .p1 { fill: var(--p1); } .p2 { fill: var(--p2); }
.p3 { fill: var(--p3); } .p4 { fill: var(--p4); } .p5 { fill: var(--p5); }
.phase { stroke: var(--card); stroke-width: 1.5; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 3px;
  margin-right: .5em; }
.swatch.p0 { background: var(--p0); } .swatch.p1 { background: var(--p1); }
.swatch.p2 { background: var(--p2); } .swatch.p3 { background: var(--p3); }
.swatch.p4 { background: var(--p4); } .swatch.p5 { background: var(--p5); }
.swatch.off { background: var(--rail); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; color: var(--soft); font-size: .88rem;
  margin: .8rem 0 0; padding: 0; list-style: none; }
.legend svg { width: 14px; height: 14px; vertical-align: -2px; margin-right: .35rem; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.4rem;
  margin: .8rem 0 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--ground); border: 1px solid var(--edge); border-radius: 10px;
  padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: .88rem; margin-top: 1.4rem; }
@media (max-width: 44rem) {
  .page { padding: 1rem .8rem 3rem; }
  .verdict, section { padding: 1.1rem 1.05rem 1.2rem; border-radius: 12px; }
  .verdict { border-left-width: 6px; }
  .verdict .sign { width: 46px; height: 46px; } .verdict .sign svg { width: 26px; height: 26px; }
  .figures { grid-template-columns: repeat(2, 1fr); }
  .figure dd { font-size: 1.2rem; }
  .ladder { grid-template-columns: repeat(2, 1fr); }
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: .6rem; }
  .stack thead { position: absolute; left: -999px; }
  .stack tr, .stack td, .stack th[scope=row] { display: block; border: 0; padding: .1rem 0; }
  .stack td.number { text-align: left; }
  .stack td:empty { display: none; }
  .stack td[data-label]:not([data-label=""])::before { content: attr(data-label) ": ";
    color: var(--soft); }
  .stack .spark { display: inline; vertical-align: middle; }
  .stack tr { border-bottom: 1px solid var(--edge); padding: .6rem 0; }
  .stack tr.noted { border-bottom: 0; padding-bottom: 0; }
  .stack tr.failed { background: var(--bad-ground); box-shadow: inset 4px 0 0 var(--bad);
    padding-left: .8rem; }
  .stack tr.failed > * { background: none; box-shadow: none; padding-left: 0; }
  .tick, .target-text { font-size: 19px; }
  svg.plot { overflow: visible; }
}
@media print {
  :root { --ground: #fff; --card: #fff; --text: #000; --soft: #444; --edge: #bbb;
    --good: #0b6b42; --good-ground: #fff; --bad: #a1160f; --bad-ground: #fff;
    --none: #7a5000; --none-ground: #fff; --accent: #1f5fbf; --rail: #eee; color-scheme: light; }
  body { font-size: 10.5pt; }
  .page { max-width: none; padding: 0; }
  .skip { display: none; }
  section, .verdict { border-radius: 0; border-width: 1px 0 0; padding: .8rem 0; }
  .verdict { border: 2px solid var(--tone); padding: .8rem 1rem; }
  tr, figure, .ladder, .figures { break-inside: avoid; }
  h2 { break-after: avoid; }
  .scroll { overflow: visible; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""

_STROKE = 'fill="none" stroke="currentColor" stroke-width="2.6" stroke-linecap="round"'
ICONS: Final = {
    "good": f'<path {_STROKE} stroke-linejoin="round" d="M5 12.5l4.6 4.6L19 7.5"/>',
    "bad": f'<path {_STROKE} d="M6.5 6.5l11 11M17.5 6.5l-11 11"/>',
    "none": f'<path {_STROKE} d="M12 5.5v8"/><circle cx="12" cy="18" r="1.8" fill="currentColor"/>',
    "quiet": f'<path {_STROKE} d="M6 12h12"/>',
}


def icon(name: str) -> str:
    """A sign that is hidden from screen readers: the word always stands beside it."""
    return f'<svg viewBox="0 0 24 24" aria-hidden="true" focusable="false">{ICONS[name]}</svg>'


def page(title: str, body: str) -> str:
    """A whole page that forbids itself the network."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the verdict</a>\n'
        f'<div class="page">\n{body}\n</div>\n</body>\n</html>\n'
    )
