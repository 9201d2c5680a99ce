"""The page's look: light and dark as the reader's system has it, and ink on white when it is printed."""

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf8;--card:#fff;--ink:#1d2126;--soft:#5d6671;--line:#e3e0da;--grid:#eceae5;
--chosen:#0b7a53;--good:#2f6fb7;--rejected:#c2413b;--budget:#b7791f;--beyond:#c2413b14;--tint:#0b7a5312;
--saturation:#d1495b;--dead:#7d4fb3;--outlier:#d98a1f;--inherited:#8c97a3;--rounding:#3b8ea5;--column:#9fb6cf}
@media (prefers-color-scheme:dark){:root{--paper:#14171a;--card:#1c2024;--ink:#e9ecef;--soft:#9aa4af;--line:#2d333a;
--grid:#272c32;--chosen:#43c793;--good:#6ea8e6;--rejected:#ef7a72;--budget:#e0a94a;--beyond:#ef7a7218;--tint:#43c79318;
--saturation:#f0788a;--dead:#b08be0;--outlier:#f0b152;--inherited:#78838f;--rounding:#67b9cf;--column:#4d6580}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",sans-serif;-webkit-font-smoothing:antialiased}
main{max-width:1020px;margin:0 auto;padding:44px 24px 64px}
h1{font-size:31px;line-height:1.15;letter-spacing:-.02em;margin:2px 0 10px}
h2{font-size:18px;letter-spacing:-.01em;margin:0 0 4px}
h3{font-size:14px;margin:20px 0 6px}
p{margin:0 0 12px;max-width:76ch}
.eyebrow{color:var(--soft);font-size:13px;letter-spacing:.02em}
.verdict{font-size:17px;color:var(--soft);max-width:70ch}
.verdict b{color:var(--chosen);font-weight:650}
.hint{color:var(--soft);font-size:13.5px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(164px,1fr));gap:14px;margin:26px 0 8px}
.tile,section{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:15px 18px}
.tile .what{color:var(--soft);font-size:13px}
.tile .figure{font-size:25px;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums;line-height:1.3}
.tile .beside{color:var(--soft);font-size:13px}
section{padding:22px 24px;margin-top:18px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:18px 26px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{text-align:left;font-weight:600;color:var(--soft);font-size:12.5px;border-bottom:1px solid var(--line);
padding:5px 14px 5px 0;white-space:nowrap}
td{padding:7px 14px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}
td.tight{white-space:nowrap}
tr.chosen td{background:var(--tint)}
tr.chosen td:first-child{font-weight:650}
code,.hash{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
td code{display:inline-block;min-width:260px}
.hash{color:var(--soft)}
.badge{display:inline-block;font-size:12px;font-weight:600;border-radius:99px;padding:0 9px;border:1px solid;
white-space:nowrap}
.badge.chosen{color:var(--chosen)}.badge.good{color:var(--good)}.badge.rejected{color:var(--rejected)}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;color:var(--soft);margin:8px 0 0}
.key i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px;background:var(--column)}
i.saturation{background:var(--saturation)!important}i.dead-channels{background:var(--dead)!important}
i.range-outlier{background:var(--outlier)!important}i.inherited{background:var(--inherited)!important}
i.rounding{background:var(--rounding)!important}
ol.steps{list-style:none;margin:12px 0 0;padding:0}
ol.steps li{border-left:2px solid var(--line);padding:0 0 12px 16px;margin-left:5px;position:relative}
ol.steps li:before{content:"";position:absolute;left:-6px;top:6px;width:10px;height:10px;border-radius:50%;
background:var(--rejected)}
ol.steps li.enough:before{background:var(--chosen)}
.meter{display:inline-block;height:8px;border-radius:4px;background:var(--good);vertical-align:middle}
.plot{width:100%;height:auto;max-width:480px;display:block;font-family:inherit}
.plot.wide{max-width:none}
.plot text{fill:var(--ink);font-size:12px}
.plot .tick{fill:var(--soft);font-size:11px}.plot .label{fill:var(--soft);font-size:12px;font-weight:600}
.plot .middle{text-anchor:middle}.plot .end{text-anchor:end}.plot .start{text-anchor:start}
.plot .name{font-weight:600}
.grid{stroke:var(--grid)}.axis{stroke:var(--soft)}
.budget{stroke:var(--budget);stroke-width:1.5;stroke-dasharray:5 4}.plot .budget-text{fill:var(--budget)}
.beyond{fill:var(--beyond)}
.front{fill:none;stroke:var(--soft);stroke-width:1.2;stroke-dasharray:2 4;opacity:.8}
.plot circle.chosen{fill:var(--chosen);stroke:var(--card);stroke-width:2}.plot circle.good{fill:var(--good)}
.plot circle.rejected{fill:var(--rejected)}
.cross{stroke:var(--rejected);stroke-width:2.2;fill:none;stroke-linecap:round}
.whisker{stroke-width:2.5;stroke-linecap:round;opacity:.55}
.whisker.chosen{stroke:var(--chosen)}.whisker.good{stroke:var(--good)}.whisker.rejected{stroke:var(--rejected)}
.plot text.chosen{fill:var(--chosen)}.plot text.good{fill:var(--good)}.plot text.rejected{fill:var(--rejected)}
.hit{fill:var(--chosen)}.miss{fill:var(--rejected)}.plot .count{font-size:10.5px}.plot .count.strong{fill:var(--card)}
.bar{fill:var(--good)}
.median{stroke:var(--ink);stroke-width:1.6}
.column{fill:var(--column)}.column.saturation{fill:var(--saturation)}.column.dead-channels{fill:var(--dead)}
.column.range-outlier{fill:var(--outlier)}.column.inherited{fill:var(--inherited)}.column.rounding{fill:var(--rounding)}
footer{color:var(--soft);font-size:13px;margin-top:26px}
@media (max-width:640px){main{padding:26px 14px}section{padding:18px 16px}.pair{grid-template-columns:1fr}
h1{font-size:25px}}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#ccc;--grid:#e5e5e5;--chosen:#0b7a53;
--good:#2f6fb7;--rejected:#c2413b;--budget:#8a5a12;--tint:#0b7a5312}
@page{margin:14mm}
body{font-size:9.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}main{max-width:none;padding:0}
section,.tile{break-inside:avoid;border-radius:6px;padding:12px 14px}section.long{break-inside:auto}
.tiles{grid-template-columns:repeat(5,1fr);gap:8px}.tile .figure{font-size:15pt}.pair{grid-template-columns:1fr 1fr}
.scroll{overflow:visible}table{font-size:8.5pt}td,th{padding-right:8px}td code{min-width:180px}
tr,svg,h3{break-inside:avoid}h2,h3{break-after:avoid}}
"""
