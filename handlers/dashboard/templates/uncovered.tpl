% rebase('layout')
<h1>Datasets in no group</h1>
% if not found:
<p>{{!ui.state("ok", "Every dataset that was reported is in a group.")}}</p>
% else:
<p class="muted">Nobody looks after copies of these. That may be right: scratch, caches, what a conflict set aside.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Datasets">
<table id="uncovered-table" class="stack" data-sortable><thead><tr><th scope="col">Dataset</th><th scope="col">System</th><th scope="col">Size</th><th scope="col">Snapshots</th><th scope="col">Newest</th></tr></thead><tbody>
% for each in found[:500]:
<tr><th scope="row">{{each.dataset}}\\
% if each.is_set_aside:
 <span class="tag">set aside by a decision</span>\\
% end
</th><td data-label="System"><a href="/dashboard/systems/{{each.system_id}}">{{each.hostname}}</a></td>
<td data-label="Size" data-sort="{{each.used or 0}}" class="number">{{ui.size(each.used)}}</td><td data-label="Snapshots" data-sort="{{each.snapshots}}" class="number">{{each.snapshots}}</td>
<td data-label="Newest" data-sort="{{each.newest_at.timestamp() if each.newest_at else 0}}">{{!ui.ago(each.newest_at, "none")}}</td></tr>
% end
</tbody></table></div>
% if len(found) > 500:
<p class="muted">and {{len(found) - 500}} smaller ones.</p>
% end
% end
