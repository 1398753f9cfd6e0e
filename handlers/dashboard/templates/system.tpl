% rebase('layout')
<p class="crumbs"><a href="/dashboard/systems">Systems</a></p>
<h1>{{system["hostname"]}}</h1>
% online = health["connectivity_status"]
<p>{{!ui.state({"online": "ok", "offline": "late"}.get(online, "expected"), online)}} <span class="muted">heard {{!ui.ago(health["last_seen"])}}</span></p>
<dl class="facts">
<div><dt>Inventory</dt><dd>\\
% if health["held_at"]:
{{!ui.lasting(health["held_at"])}} old, {{ui.plural(health["snapshot_count"], "snapshot")}}\\
% else:
never reported\\
% end
</dd></div>
<div><dt>Reached by ssh as</dt><dd><code>{{system["ssh_user"] or "root"}}@{{system["ssh_hostname"] or system["hostname"]}}:{{system["ssh_port"]}}</code></dd></div>
<div><dt>Platform</dt><dd>{{system["platform"]}}{{", ZFS " + zfs_version if zfs_version else ""}}{{", agent " + agent_version if agent_version else ""}}</dd></div>
<div><dt>Registered</dt><dd>{{ui.at(system["created_at"])}}</dd></div>
<div><dt>Id</dt><dd><code>{{system["id"]}}</code></dd></div>
</dl>
% for guard in guards:
<p class="notice bad"><strong>{{guard.id}}</strong> lost {{guard.lost}} of {{guard.had}} snapshots at once, {{!ui.ago(guard.raised_at)}}. Nothing of it is deleted anywhere until an admin accepts that.</p>
% end
<h2>Copies here</h2>
% if copies:
<div class="scroll" tabindex="0" role="region" aria-label="Copies">
<table id="copies-table" class="stack" data-sortable><thead><tr><th scope="col">Dataset</th><th scope="col">State</th><th scope="col">Behind</th><th scope="col">Newest</th><th scope="col">Group</th></tr></thead><tbody>
% for copy in copies:
<tr><th scope="row"><a href="{{ui.link("/dashboard/groups/" + copy.group.id + "/dataset", path=copy.path)}}">{{copy.dataset}}</a>\\
% if copy.why and copy.state not in ("ok", "source"):
<span class="why">{{copy.why}}</span>\\
% end
</th>
<td data-label="State" data-sort="{{states.index(copy.state)}}">{{!ui.state(copy.state, copy.word)}}</td>
<td data-label="Behind" data-sort="{{copy.since.timestamp() if copy.since else 10**12}}">\\
% if copy.since:
{{!ui.lasting(copy.since)}}<small>{{ui.plural(copy.lacking, "snapshot")}}</small>\\
% else:
–\\
% end
</td>
<td data-label="Newest" data-sort="{{copy.newest_at.timestamp() if copy.newest_at else 0}}">{{!ui.ago(copy.newest_at, "none")}}</td><td data-label="Group">{{copy.group.name}}</td></tr>
% end
</tbody></table></div>
% include('paging', shown=copy_pages, noun="copies")
% else:
<p class="muted">Nothing of it is in a group.</p>
% end
% if uncovered:
<h2>In no group</h2>
<ul class="plain">
% for each in uncovered[:50]:
<li><code>{{each.dataset}}</code> <span class="small muted">{{ui.size(each.used)}}, {{ui.plural(each.snapshots, "snapshot")}}</span></li>
% end
</ul>
% end
