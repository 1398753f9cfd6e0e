% rebase('layout')
<div class="line"><h1>Systems</h1>
% if visit.is_admin:
<a class="button" href="/dashboard/systems/new">Add a system</a>
% end
</div>
<div class="scroll" tabindex="0" role="region" aria-label="Systems">
<table id="systems-table" class="stack" data-sortable><thead><tr><th scope="col">System</th><th scope="col">Last heard</th><th scope="col">Inventory</th><th scope="col">Snapshots</th><th scope="col">Groups</th><th scope="col">Agent</th></tr></thead><tbody>
% for row in rows:
% online = row["connectivity_status"]
<tr><th scope="row"><a href="/dashboard/systems/{{row["system_id"]}}">{{row["hostname"]}}</a> <span class="small muted">{{row["system"].platform}}</span></th>
<td data-label="Last heard" data-sort="{{row["seconds_since_last_seen"] if row["seconds_since_last_seen"] is not None else 10**12}}">{{!ui.state({"online": "ok", "offline": "late"}.get(online, "expected"), online)}}<small>{{!ui.ago(row["last_seen"])}}</small></td>
<td data-label="Inventory">\\
% if row["held_at"]:
{{!ui.lasting(row["held_at"])}} old\\
% else:
none\\
% end
</td>
<td data-label="Snapshots" data-sort="{{row["snapshot_count"]}}" class="number">{{row["snapshot_count"]}}</td>
<td data-label="Groups">\\
% for place, group in enumerate(row["groups"]):
{{", " if place else ""}}<a href="/dashboard/groups/{{group.id}}">{{group.name}}</a>\\
% end
</td>
<td data-label="Agent">{{row["agent_version"] or "–"}}</td></tr>
% end
% for hostname, group in expected:
<tr><th scope="row">{{hostname}}</th><td data-label="Last heard">{{!ui.state("expected", "not registered yet")}}</td><td data-label="Inventory">–</td><td data-label="Snapshots" class="number">–</td><td data-label="Groups">{{group}}</td><td data-label="Agent">–</td></tr>
% end
</tbody></table></div>
% if not rows and not expected:
<p class="muted">No system has registered yet.</p>
% end
% if uncovered:
<p class="small"><a href="/dashboard/uncovered">{{ui.plural(uncovered, "dataset is", "datasets are")}} in no group</a></p>
% end
