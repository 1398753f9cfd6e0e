% rebase('layout')
<p class="crumbs"><a href="/dashboard">Overview</a> / <a href="/dashboard/groups/{{group.id}}">{{group.name}}</a></p>
<h1 class="name">{{ui.dataset(query.path)}}</h1>
% for conflict in conflicts:
<div class="notice bad"><strong>{{conflict["type"]}}:</strong> {{conflict["reason"]}} <a href="/dashboard/conflicts/{{conflict["id"]}}">See the ways out</a></div>
% end
<ul class="copies">
% for copy in copies:
<li class="card {{copy.state}}">
% if copy.state == "expected":
<div class="line"><strong>{{copy.hostname}}</strong> {{!ui.state(copy.state, copy.word)}}</div>
% else:
<div class="line"><strong><a href="/dashboard/systems/{{copy.system_id}}">{{copy.hostname}}</a></strong> {{!ui.state(copy.state, copy.word)}}</div>
% end
<code>{{copy.dataset}}</code>
<p class="small">\\
% if copy.newest:
Newest: {{copy.newest["name"]}}, {{!ui.ago(copy.newest_at)}}.\\
% else:
No snapshot.\\
% end
% if not copy.is_source and copy.common:
 In common: {{copy.common["name"]}}.\\
% end
% if copy.lacking:
 {{ui.plural(copy.lacking, "snapshot")}} missing\\
% if copy.bytes_to_send:
, about {{ui.size(copy.bytes_to_send)}}\\
% end
.\\
% end
</p>
% if copy.why:
<p class="small muted">{{copy.why}}</p>
% end
</li>
% end
</ul>
<section aria-labelledby="over-time">
<div class="line"><h2 id="over-time">Snapshots over time</h2>
<nav class="tabs" aria-label="How much of the past">
% for words, path, days in spans:
<a href="{{path}}"\\
% if days == query.days:
 aria-current="true"\\
% end
>{{words}}</a>
% end
</nav></div>
<div class="card picture"><div class="wide">{{!timelines[0]}}</div><div class="narrow">{{!timelines[1]}}</div>
<ul class="legend small">
<li><svg viewBox="0 0 16 16" aria-hidden="true"><path class="tick shared" d="M8 2v12"/></svg> on several systems</li>
<li><svg viewBox="0 0 16 16" aria-hidden="true"><path class="tick source-only" d="M8 2v12"/></svg> at the source only</li>
<li><svg viewBox="0 0 16 16" aria-hidden="true"><path class="only-here" d="M8 1l6 7l-6 7l-6 -7z"/></svg> on a copy only</li>
<li><svg viewBox="0 0 16 16" aria-hidden="true"><circle class="base" cx="8" cy="8" r="6"/></svg> newest in common</li>
<li><svg viewBox="0 0 16 16" aria-hidden="true"><path class="missing" d="M5 8a3 3 0 1 0 6 0a3 3 0 1 0 -6 0"/></svg> missing</li>
</ul></div>
<details id="all-snapshots"\\
% if query.offset:
 open\\
% end
><summary>{{ui.plural(row_pages["count"], "snapshot")}}, as a table</summary>
<div class="scroll" tabindex="0" role="region" aria-label="Snapshots">
<table><thead><tr><th scope="col">Snapshot</th><th scope="col">Made</th>
% for copy in copies:
<th scope="col">{{copy.hostname}}</th>
% end
</tr></thead><tbody>
% for row in rows:
<tr><th scope="row">{{row.name}}</th><td>{{ui.at(row.creation)}}</td>
% for mark in row.marks:
<td>{{mark or "–"}}</td>
% end
</tr>
% end
</tbody></table></div>
% include('paging', shown=row_pages, noun="snapshots")
</details>
</section>
% if skips:
<section aria-labelledby="left-out"><h2 id="left-out">Left out of the plan</h2>
<ul>
% for skip in skips:
<li><strong>{{hostnames.get(skip["target_system_id"], "-")}}:</strong> {{skip["reason"]}}</li>
% end
</ul></section>
% end
% if restores:
<section aria-labelledby="get-back"><h2 id="get-back">Get data back</h2>
<p class="muted">These read from a copy and write over nothing. Run them as root on the system named, and choose another snapshot by its name if you need an older state.</p>
% for number, restore in enumerate(restores):
<details id="restore-{{number}}"><summary>from <strong>{{restore.hostname}}</strong>, <code>{{restore.dataset}}@{{restore.snapshot}}</code></summary>
% if restore.note:
<p class="notice">{{restore.note}}</p>
% end
<h3>One file</h3>
<pre tabindex="0"><code>{{restore.one_file}}</code></pre>
<h3>The whole dataset, as a new one on {{restore.whole_to}}</h3>
<pre tabindex="0"><code>{{restore.whole}}</code></pre>
</details>
% end
</section>
% end
