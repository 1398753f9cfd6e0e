% rebase('layout')
<p class="crumbs"><a href="/dashboard">Overview</a></p>
<h1>{{group.name}}</h1>
% if group.options.description:
<p class="muted">{{group.options.description}}</p>
% end
<p class="small muted">Every {{ui.span(interval_s)}}\\
% if group.hub_system_id:
, as the hub has it\\
% else:
, in both directions\\
% end
; {{"written in the configuration file" if group.source == "config" else "made over the API"}}\\
% if not group.options.enabled:
; <strong>disabled: nothing is planned</strong>\\
% end
.</p>
% if conflicts:
<div class="notice bad"><strong>{{ui.plural(len(conflicts), "conflict wants", "conflicts want")}} a decision:</strong>
% for conflict in conflicts[:5]:
<a href="/dashboard/conflicts/{{conflict["id"]}}">{{ui.dataset(conflict["dataset"])}}</a>
% end
</div>
% end
% for copy in empty[:3]:
<div class="notice"><strong>{{copy.dataset}} on {{copy.hostname}} was made by hand, and is still empty.</strong> Nothing is lost. ZFS only takes a first full stream where no dataset is yet. Look into it, and if nothing is in it, rename it out of the way (<code>zfs rename</code>); it is then made anew. Or give this system another root.</div>
% end
<form class="filter" method="get" role="search">
<label for="q">Find</label>
<input id="q" name="q" type="search" value="{{query.q or ""}}" placeholder="dataset or system" data-filter="matrix">
<label for="state">Show</label>
<select id="state" name="state">
% for value, words in (("", "all"), ("trouble", "what needs a look"), *words_of.items()):
<option value="{{value}}"\\
% if value == (query.state or ""):
 selected\\
% end
>{{words}}</option>
% end
</select>
<button>Show</button>
</form>
% if not rows:
<p class="muted">No dataset here fits.</p>
% else:
<div class="scroll" tabindex="0" role="region" aria-labelledby="matrix-caption">
<table id="matrix" class="matrix" data-sortable>
<caption id="matrix-caption">Datasets and where their copies stand, the worst first</caption>
<thead><tr><th scope="col">Dataset</th>
% for system in systems:
<th scope="col">\\
% if system["expected"]:
{{system["hostname"]}} <span class="tag">expected</span>\\
% else:
<a href="/dashboard/systems/{{system["system_id"]}}">{{system["hostname"]}}</a>\\
% end
% if system["is_hub"]:
 <span class="tag">hub</span>\\
% end
</th>
% end
</tr></thead>
<tbody>
% for path, copies in rows:
% worst = min((copy for copy in copies if copy), key=lambda copy: copy.badness)
<tr><th scope="row" data-sort="{{path}}"><a href="{{ui.link("/dashboard/groups/" + group.id + "/dataset", path=path)}}">{{ui.dataset(path)}}</a>\\
% if worst.why and worst.state not in ("ok", "source"):
<span class="why">{{worst.why}}</span>\\
% end
</th>
% for system, copy in zip(systems, copies):
% if copy is None:
<td data-label="{{system["hostname"]}}" class="none">–</td>
% else:
<td data-label="{{copy.hostname}}" data-sort="{{states.index(copy.state)}}" class="{{copy.state}}">{{!ui.state(copy.state, copy.word)}}<small>\\
% if copy.since:
{{ui.plural(copy.lacking, "snapshot")}}, {{!ui.lasting(copy.since)}}\\
% elif copy.newest_at:
newest {{!ui.ago(copy.newest_at)}}\\
% end
</small></td>
% end
% end
</tr>
% end
</tbody>
</table>
</div>
% include('paging', shown=row_pages, noun="datasets")
% if column_pages["before"] or column_pages["after"]:
% include('paging', shown=column_pages, noun="systems")
% end
% end
