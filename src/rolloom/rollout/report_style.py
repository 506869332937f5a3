"""The report's style sheet. It is the only style the page's content policy lets through, by its hash."""

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #ffffff; --ink: #1c1e21; --muted: #5d636b;
  --rule: #dcdfe3; --grid: #e9ebee; --good: #0b6b3a; --bad: #a3242b; --think: #f3f4f6; --prompt: #eef3f8;
  --c0: #0a66b0; --c1: #b8480a; --c2: #0b7a57; --c3: #98379a; --c4: #7a6400; --c5: #00708a; --c6: #b3255b;
  --c7: #555b66; }
@media (prefers-color-scheme: dark) {
:root { --page: #15171a; --card: #1d2024; --ink: #e6e8ea; --muted: #a2a9b2; --rule: #363b42; --grid:
  #2b2f35; --good: #67d699; --bad: #ff8f92; --think: #24282d; --prompt: #1f2a35; --c0: #69b7f5; --c1:
  #f59a56; --c2: #45d0a0; --c3: #df8ce0; --c4: #dcc14a; --c5: #4fcbe6; --c6: #ff86ad; --c7: #b3bac4; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1.5rem 1.25rem 4rem; background: var(--page); color:
  var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 78ch; }
.muted { color: var(--muted); }
.good { color: var(--good); }
.bad { color: var(--bad); }
a { color: var(--c0); }
nav a { margin-right: 1rem; }
.notice { border-left: 4px solid var(--c1); padding: .4rem .8rem; background: var(--card); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: .8rem; margin:
  1.2rem 0; padding: 0; list-style: none; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .8rem 1rem;
  min-width: 0; }
.card .label { color: var(--muted); font-size: .85rem; }
.card .value { font-size: 1.2rem; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums;
  }
.card .detail { font-size: .85rem; color: var(--muted); }
.scroll { overflow-x: auto; }
.scroll:focus-visible, pre:focus-visible { outline: 2px solid var(--c0); }
table { border-collapse: collapse; width: 100%; font-size: .84rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); font-size: .85rem; padding-bottom: .4rem; }
th, td { padding: .4rem .4rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap;
  vertical-align: top; }
th:first-child { text-align: left; }
thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 500; }
tr.total th, tr.total td { font-weight: 650; border-top: 2px solid var(--rule); }
.ci { display: block; color: var(--muted); font-size: .75rem; font-weight: 400; }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: .8rem;
  }
figure { margin: 0; }
figcaption { font-size: .85rem; color: var(--muted); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .2rem 0 .8rem; padding: 0; list-style:
  none; font-size: .9rem; }
.legend li { display: flex; align-items: center; gap: .4rem; }
.box { width: 14px; height: 12px; display: inline-block; border: 1.5px solid var(--c7); }
.box.after { background: var(--c0); border-color: var(--c0); opacity: .75; }
svg.chart { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg .tick, svg .muted { fill: var(--muted); }
svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--rule); }
.s0 { color: var(--c0); }
.s1 { color: var(--c1); }
.s2 { color: var(--c2); }
.s3 { color: var(--c3); }
.s4 { color: var(--c4); }
.s5 { color: var(--c5); }
.s6 { color: var(--c6); }
.s7 { color: var(--c7); }
svg .line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
svg .hover { fill: transparent; }
svg .hover:hover, svg .dot { fill: currentColor; }
svg .whisker { stroke: currentColor; stroke-width: 1.4; opacity: .6; }
svg .shaft { stroke: currentColor; stroke-width: 2; }
svg .head { fill: currentColor; }
svg .mark { stroke: currentColor; stroke-width: 2; fill: var(--card); }
svg .mark.after { fill: currentColor; }
svg text.name { fill: currentColor; font-size: 12px; font-weight: 600; paint-order: stroke; stroke:
  var(--card); stroke-width: 4px; }
svg .bar.before { fill: transparent; stroke: var(--c7); stroke-width: 1.2; }
svg .bar.after { fill: var(--c0); opacity: .6; }
.task { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .8rem 1rem;
  margin: .8rem 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: .8rem; }
.pair > * { min-width: 0; }
.pair h3 { margin-top: .8rem; }
.outcome { font-size: .88rem; margin: .2rem 0 .5rem; }
.role { color: var(--muted); font-size: .78rem; text-transform: uppercase; letter-spacing: .04em;
  margin-top: .5rem; }
pre { margin: .15rem 0; padding: .5rem .7rem; border-radius: 6px; background: var(--think); font: 12.5px/1.5
  ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; max-height:
  28rem; overflow: auto; unicode-bidi: isolate; direction: ltr; text-align: left; }
pre.prompt { background: var(--prompt); }
pre .think { color: var(--muted); }
details > summary { cursor: pointer; margin: .4rem 0; }
@media print {
body { max-width: none; }
pre { max-height: none; }
.card, .task { break-inside: avoid; }
}
"""
