// How explorables look: colours of roles, light and dark, cells, ribbons, bars, paper.
export const CSS = `
:host { --in:#0072b2; --ker:#e69f00; --out:#009e73; --grad:#cc79a7; --pad:#999; --ink:#1d2126; --muted:#545b64; --page:#fff; --box:#f6f7f8; --rule:#d3d7dc;
  --t-in:#005f9c; --t-ker:#8f5a00; --t-out:#00704f; --t-grad:#9c3d72;
  display:block; container-type:inline-size; color:var(--ink); font:400 15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
  font-variant-numeric:tabular-nums; max-width:46rem; margin:1.4rem 0 }
:host([mode=dark]) { --in:#3d9bdc; --ker:#e8a825; --out:#27b888; --grad:#d98bb5; --pad:#8a9097; --ink:#e3e6ea; --muted:#a9b1ba; --page:#15181c; --box:#1e2227; --rule:#383e46;
  --t-in:#6db9ee; --t-ker:#f2b134; --t-out:#3fcf9f; --t-grad:#e79cc6 }
* { box-sizing:border-box }
.frame { border:1px solid var(--rule); border-radius:12px; background:var(--page); overflow:hidden }
.bar { display:flex; flex-wrap:wrap; gap:.5rem 1.2rem; align-items:end; padding:.7rem 1rem; background:var(--box); border-bottom:1px solid var(--rule) }
.bar.foot { border:0; border-top:1px solid var(--rule); gap:.5rem 1.2rem; align-items:center }
.task { padding:.7rem 1rem; border-bottom:1px solid var(--rule); display:flex; flex-wrap:wrap; gap:.3rem .8rem; align-items:baseline } .task p { margin:0; flex:1 1 20rem }
.task b, .verdict b { font-weight:650 } .right { color:var(--t-out); font-weight:650 }
fieldset { border:0; margin:0; padding:0; min-width:0 }
legend, .l { font-size:.8rem; color:var(--muted); padding:0; margin:0 0 .2rem; display:block }
.cells { display:flex; gap:3px; align-items:center; flex-wrap:wrap }
.count { min-width:1.2em; text-align:center }
.cells button { width:1.7rem; padding:0 }
input.n { width:2.5rem; height:2.2rem; text-align:center; font:inherit; font-weight:650; color:var(--ink); border:1.5px solid var(--c,var(--muted)); border-radius:6px;
  background:color-mix(in srgb,var(--c,var(--page)) 18%,var(--page)); padding:0 }
select, button { font:inherit; font-size:.87rem; color:var(--ink); background:var(--page); border:1px solid var(--muted); border-radius:6px; height:2.2rem; padding:0 .65rem; cursor:pointer }
button[aria-pressed=true] { background:var(--ink); color:var(--page); border-color:var(--ink) }
button:disabled { color:var(--muted); border-color:var(--rule); cursor:default }
:is(input,select,button,[tabindex]):focus-visible { outline:3px solid var(--ink); outline-offset:2px }
.pic { padding:.4rem 0; overflow-x:auto } .pic.pad { padding:.8rem 1rem }
svg { display:block; width:100%; height:auto; touch-action:manipulation }
svg text { font-family:inherit; fill:var(--ink); text-anchor:middle; dominant-baseline:central; font-variant-numeric:tabular-nums }
svg text.name { fill:var(--muted); text-anchor:start; font-style:italic } svg text.small { fill:var(--muted); font-size:12px }
.in { --c:var(--in) } .ker { --c:var(--ker) } .out { --c:var(--out) } .grad { --c:var(--grad) } .padc { --c:var(--pad) } .plain { --c:var(--muted) }
.cell rect { fill:color-mix(in srgb,var(--c) 20%,var(--page)); stroke:var(--c); stroke-width:1.4 } .cell text { font-weight:600 }
.cell.plain rect { fill:var(--page); stroke:var(--muted) } .cell.zero rect { fill:var(--page); stroke:var(--rule) } .cell.zero text { fill:var(--muted); font-weight:400 }
.cell.dim rect { fill:var(--page); stroke:color-mix(in srgb,var(--c) 45%,var(--page)) } .cell.dim text { fill:var(--muted); font-weight:400 }
.cell.differs rect { stroke-dasharray:3 3 } .cell.padc rect { stroke-dasharray:4 3 } .cell.on rect { stroke-width:3; fill:color-mix(in srgb,var(--c) 42%,var(--page)); stroke:var(--c) } .cell.plain.on rect { fill:var(--box); stroke:var(--ink) }
.ribbon { fill:none; stroke:var(--ker); opacity:.26; stroke-linecap:round } .ribbon.neg { stroke-dasharray:5 4 } .ribbon.nil { stroke:var(--rule); stroke-width:1; opacity:.8 }
.ribbon.on { opacity:1 } .ribbon.nil.on { stroke:var(--muted) }
.tap rect { fill:var(--page); stroke:var(--ker); stroke-width:1.2 } .tap text { fill:var(--t-ker); font-weight:700 }
.dot { fill:var(--c); stroke:var(--page); stroke-width:1 } .bar-line { stroke:var(--c); stroke-width:1.6; opacity:.5 } .slash { stroke:var(--muted); stroke-width:1.4 }
.faint { opacity:.4 } input[type=range] { accent-color:var(--muted); width:8rem; height:1.6rem; margin:0; display:block } output { color:var(--ink); font-weight:650 }
.curve { fill:none; stroke:var(--c); stroke-width:2.2 } .axis { stroke:var(--rule); stroke-width:1 }
.row { display:flex; flex-wrap:wrap; gap:1rem 1.4rem; align-items:flex-start }
.grid { display:grid; gap:2px; width:max-content } .grid>[role=row] { display:contents }
.g { width:var(--side,2.2rem); height:var(--side,2.2rem); border:1.4px solid color-mix(in srgb,var(--c) 55%,var(--page)); border-radius:5px; background:var(--page); color:var(--ink);
  font:inherit; font-size:var(--digits,.92rem); text-align:center; display:grid; place-items:center; padding:0; cursor:pointer }
input.g { display:block; cursor:text } .g.fill { background:color-mix(in srgb,var(--c) 20%,var(--page)); border-color:var(--c); font-weight:600 }
.g.on { background:color-mix(in srgb,var(--c) 42%,var(--page)); border-color:var(--c); box-shadow:0 0 0 1.5px var(--c); font-weight:700 }
.g.zero { color:var(--muted); border-color:var(--rule) } .g.padc { border-style:dashed; color:var(--muted) }
.g.unread { background:repeating-linear-gradient(45deg,var(--page) 0 4px,var(--rule) 4px 5px) } .g.still { cursor:default }
.say { margin:0; padding:.35rem 1rem .9rem; min-height:3.4em; text-wrap:pretty; overflow-wrap:anywhere } .say b { font-weight:650 }
.say .k { color:var(--t-ker); font-weight:650 } .say .i { color:var(--t-in); font-weight:650 } .say .o { color:var(--t-out); font-weight:650 } .say .d { color:var(--t-grad); font-weight:650 }
.refused { margin:0; padding:1rem } .guess { display:flex; flex-wrap:wrap; gap:.5rem; align-items:center; padding:.2rem 1rem .8rem } .guess input { width:4.5rem }
.rule { border-top:1px solid var(--rule) } .buttons, .group { display:flex; flex-wrap:wrap; gap:.4rem; align-items:end } .group { gap:.5rem .6rem }
.note { color:var(--muted); font-size:.87rem }
@container (max-width:30rem) { .bar, .task { padding:.6rem .7rem; gap:.5rem .8rem } input.n { width:2.2rem } .say { padding-inline:.7rem } .pic.pad { padding-inline:.7rem } }
@media (prefers-reduced-motion:no-preference) { .ribbon { transition:opacity .12s } }
@media print { .bar, .task, .guess { display:none } .frame { break-inside:avoid } }
`;
