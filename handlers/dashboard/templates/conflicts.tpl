% rebase('layout')
<h1>{{"Settled conflicts" if query.status else "Conflicts"}}</h1>
% if not conflicts:
<p>{{!ui.state("ok", "No conflict was settled yet." if query.status else "Nothing wants a decision.")}}</p>
% end
<ul class="troubles">
% for conflict in conflicts:
<li class="{{"behind" if conflict["status"] in ("pending", "ignored", "resolved") else "conflict"}}"><a href="/dashboard/conflicts/{{conflict["id"]}}">
{{!ui.state({"pending": "syncing", "ignored": "expected", "resolved": "ok"}.get(conflict["status"], "conflict"), conflict["type"])}}
<span class="what"><strong>{{ui.dataset(conflict["dataset"])}}</strong> <span class="small muted">{{conflict["reason"]}}</span></span>
<span class="since">{{conflict["severity"]}}, {{conflict["status"]}}<span class="small muted">{{groups.get(conflict["sync_group_id"], "")}}</span></span>
</a></li>
% end
</ul>
% if minor:
<details id="minor"><summary>{{ui.plural(len(minor), "time", "times")}} snapshots are only missing: no decision is needed</summary>
<ul>
% for conflict in minor[:200]:
<li><a href="/dashboard/conflicts/{{conflict["id"]}}">{{ui.dataset(conflict["dataset"])}}</a> <span class="small muted">{{conflict["reason"]}}</span></li>
% end
</ul></details>
% end
% if query.status:
<p class="small"><a href="/dashboard/conflicts">Those that are open</a></p>
% else:
<p class="small"><a href="/dashboard/conflicts?status=resolved">Those that were settled</a></p>
% end
