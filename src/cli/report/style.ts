/** How a report looks, on light and on dark ground, on paper, and on a narrow screen. */
export const style = `
:root { color-scheme: light dark; --ground: #fff; --card: #f6f8fa; --text: #1f2328; --quiet: #59636e; --line: #d1d9e0;
  --success: #2da07a; --running: #54a3e6; --failure: #d1242f; --missing: #c2459a; --lost: #e0791b; --preempted: #8a63d2;
  --requeued: #b59a00; --terminated: #8c959f }
@media (prefers-color-scheme: dark) { :root { --ground: #0d1117; --card: #161b22; --text: #e6edf3; --quiet: #9198a1; --line: #30363d;
  --success: #3fb68b; --running: #4493f8; --failure: #f85149; --missing: #db61a2; --lost: #f0883e; --preempted: #ab7df8;
  --requeued: #d4b72c; --terminated: #7d8590 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px }
h1 { font-size: 26px; margin: 0 0 2px; overflow-wrap: anywhere } h2 { font-size: 18px; margin: 36px 0 10px }
p { margin: 6px 0 } .quiet { color: var(--quiet) }
code, pre { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace }
code { overflow-wrap: anywhere } pre { margin: 8px 0 0; padding: 10px 12px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere }
.badge { display: inline-block; padding: 1px 10px; border-radius: 99px; font-size: 13px; font-weight: 600; vertical-align: 4px; color: #fff; background: var(--terminated) }
.badge.good { background: var(--success) } .badge.bad { background: var(--failure) } .badge.live { background: var(--running) }
.progress { display: flex; height: 12px; margin: 16px 0 0; border-radius: 99px; overflow: hidden; background: var(--line) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 18px 0 0 }
.card { padding: 10px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 10px }
.card b { display: block; font-size: 22px; line-height: 1.25; font-variant-numeric: tabular-nums } .card span { color: var(--quiet); font-size: 13px }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 16px 0 0 } dt { color: var(--quiet) } dd { margin: 0; overflow-wrap: anywhere }
.chart { display: grid; grid-template-columns: 130px 1fr; gap: 6px 12px; align-items: center }
.chart svg { display: block; width: 100%; background: var(--card); border-radius: 3px }
.who { min-width: 0; text-align: right; line-height: 1.2 } .who b { display: block; font-weight: 600; font-size: 13px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.who span { color: var(--quiet); font-size: 12px } .scale { align-self: stretch; display: flex; flex-direction: column; justify-content: space-between }
.axis { position: relative; height: 20px; border-top: 1px solid var(--line) } .axis span { position: absolute; padding-left: 3px; border-left: 1px solid var(--line); color: var(--quiet); font-size: 12px; white-space: nowrap }
.axis .last { transform: translateX(-100%); border: 0; padding: 0 3px 0 0 }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 10px 0 0 142px; color: var(--quiet); font-size: 13px }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 3px; vertical-align: -1px }
.success { fill: var(--success); background: var(--success) } .running { fill: var(--running); background: var(--running) }
.failure { fill: var(--failure); background: var(--failure) } .program-missing { fill: var(--missing); background: var(--missing) }
.lost { fill: var(--lost); background: var(--lost) } .preempted { fill: var(--preempted); background: var(--preempted) }
.requeued { fill: var(--requeued); background: var(--requeued) } .terminated { fill: var(--terminated); background: var(--terminated) }
.chart path { shape-rendering: crispEdges }
.available { stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 5 4; vector-effect: non-scaling-stroke }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: 14px }
th { text-align: left; color: var(--quiet); font-weight: 500; font-size: 13px } th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } td code { display: block; max-width: 60ch; max-height: 4.5em; overflow: hidden }
.group { margin: 12px 0; padding: 10px 14px; border: 1px solid var(--line); border-left: 4px solid var(--failure); border-radius: 8px }
.tries i { display: inline-block; width: 11px; height: 11px; margin-right: 3px; border-radius: 3px; vertical-align: -1px }
@media (max-width: 640px) { main { padding: 18px 14px 40px } .chart { grid-template-columns: 1fr } .who { text-align: left } .who b { display: inline; margin-right: 8px } .chart > div:empty { display: none }
  .scale span:last-child { display: none } .legend { margin-left: 0 } dl { grid-template-columns: 1fr } dt { margin-top: 6px } h1 { font-size: 22px }
  .axis span:nth-child(even):not(.last) { display: none } }
@media print { main { max-width: none } .group, .chart { break-inside: avoid } }
`
