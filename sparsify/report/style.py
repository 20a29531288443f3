"""The page's one style sheet: readable in light and dark, on a phone and on paper, with nothing fetched."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2127; --quiet: #5b6570; --page: #fbfaf8; --card: #ffffff; --line: #dfe2e6; --soft: #f1f2f4;
  --good: #12693c; --bad: #a4262c; --open: #7a5200; --good-bg: #e1f3e8; --bad-bg: #fbe6e6; --open-bg: #fbf0d9;
  --s0: #1f5fbf; --s1: #c2410c; --s2: #7c3aed; --s3: #0f766e; --s4: #a21caf; --dense: #444c56;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e7e9ec; --quiet: #a0a9b4; --page: #14171b; --card: #1b1f24; --line: #343b44; --soft: #242a31;
    --good: #7fd8a4; --bad: #ff9c9c; --open: #f0c674; --good-bg: #16321f; --bad-bg: #3b1c1e; --open-bg: #372a10;
    --s0: #7db4ff; --s1: #ff9d66; --s2: #c4a5ff; --s3: #5fd3c4; --s4: #f09cf5; --dense: #c3cad3;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 74rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .6rem 0; max-width: 52rem; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); }
.answer {
  margin: 1.6rem 0 0; padding: 1.05rem 1.25rem; border-left: 4px solid var(--s0); border-radius: 4px;
  background: var(--card); box-shadow: 0 0 0 1px var(--line); font-size: 1.08rem; max-width: none;
}
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .6rem; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
thead th { color: var(--quiet); font-weight: 600; font-size: .82rem; vertical-align: bottom; }
tbody th { font-weight: 600; white-space: nowrap; position: sticky; left: 0; background: var(--card); }
td.number, th.number { text-align: right; } td.number { white-space: nowrap; }
td small { display: block; color: var(--quiet); font-size: .82em; }
tr.exported > * { background: var(--soft); }
.word { display: inline-block; padding: .02rem .5rem; border-radius: 99px; font-size: .86em; font-weight: 600; }
.word { white-space: nowrap; background: var(--soft); color: var(--ink); }
.good { background: var(--good-bg); color: var(--good); }
.bad { background: var(--bad-bg); color: var(--bad); }
.open { background: var(--open-bg); color: var(--open); }
.chart { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem; }
.chart > svg { display: block; width: 100%; height: auto; }
.chart text { font-size: 12.5px; fill: var(--quiet); }
.chart .grid { stroke: var(--line); } .chart .tick { stroke: var(--quiet); }
.dense .band { fill: var(--dense); opacity: .13; }
.dense .mean { stroke: var(--dense); stroke-width: 1.6; stroke-dasharray: 6 4; }
.series { stroke: currentColor; fill: currentColor; }
.series .join { fill: none; stroke-width: 1.8; } .series .bar { stroke-width: 1.4; opacity: .75; }
.series .cross { stroke-width: 2.4; fill: none; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); } .s2 { color: var(--s2); } .s3 { color: var(--s3); }
.s4 { color: var(--s4); }
.s0 .join { stroke-width: 2.4; }
figcaption { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .88rem; padding-top: .5rem; }
.entry { display: inline-flex; align-items: center; gap: .35rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .6rem 0; font-size: .92rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
pre {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem; overflow-x: auto;
  font: .84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
summary { cursor: pointer; font-weight: 600; margin: .8rem 0; }
@media (max-width: 40rem) {
  main { padding: 1.4rem .9rem 3rem; }
  h1 { font-size: 1.5rem; }
  th, td { padding: .4rem .55rem; }
  .chart { padding: .5rem; } .chart text { font-size: 19px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .45rem; }
}
@media print { .card, .chart, .answer, pre { break-inside: avoid; } body { background: #fff; } }
"""
