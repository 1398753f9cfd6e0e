% rebase('layout')
% state, words = verdict
<section class="verdict {{state}}">
<h1>{{!ui.state(state, words)}}</h1>
% total = sum(counts.values())
% if total:
<p class="muted"><span>{{ui.plural(total, "copy", "copies")}} in {{ui.plural(len(standings), "group")}}</span>
% for state, count in counts.items():
{{!ui.state(state, f"{count} {words_of[state]}")}}
% end
</p>
% else:
<p class="muted">Write a group in <code>zfs_sync.yaml</code>, and let each system's agent report what it has.</p>
% end
</section>

% if troubles:
<section aria-labelledby="look">
<h2 id="look">Needs a look</h2>
<ul class="troubles">
% for trouble in troubles:
<li class="{{trouble.state}}"><a href="{{trouble.path}}">
{{!ui.state(trouble.state, trouble.word)}}
<span class="what"><strong>{{trouble.title}}</strong> <span class="small muted">{{trouble.detail}}</span></span>
<span class="since">\\
% if trouble.since:
{{!ui.lasting(trouble.since)}}\\
% end
<span class="small muted">{{trouble.group}}</span></span>
</a></li>
% end
</ul>
% if hidden:
<p class="muted">and {{hidden}} more, on the groups' own pages.</p>
% end
</section>
% end

% if alerts:
<section aria-labelledby="alerts">
<h2 id="alerts">Alerts in force</h2>
<ul class="troubles">
% for alert in alerts[:12]:
<li class="{{"conflict" if alert.severity == "critical" else "late"}}"><div>
{{!ui.state("conflict" if alert.severity == "critical" else "late", alert.severity)}}
<span class="what">{{alert.text}}</span>
<span class="since">{{!ui.lasting(alert.since)}}</span>
</div></li>
% end
</ul>
% if len(alerts) > 12:
<p class="muted">and {{len(alerts) - 12}} more.</p>
% end
</section>
% end

% if transfers:
<section aria-labelledby="under-way">
<h2 id="under-way">Under way</h2>
% include('transfer_list')
</section>
% end

<section aria-labelledby="groups">
<h2 id="groups">Groups</h2>
% if not standings:
<p class="muted">There is no sync group yet.</p>
% end
<div class="groups">
% for standing in standings:
% group = standing.group
<article class="card group">
<h3><a href="/dashboard/groups/{{group.id}}">{{group.name}}</a></h3>
% if group.options.description:
<p class="small muted">{{group.options.description}}</p>
% end
<p class="small members">\\
% for place, member in enumerate(group.members):
{{", " if place else ""}}{{member.hostname}}{{" (hub)" if member.system_id == group.hub_system_id else "" if member.registered else " (not registered yet)"}}\\
% end
</p>
% counts = standing.counts
% total = sum(counts.values())
% if not group.options.enabled:
<p>{{!ui.state("expected", "disabled")}}</p>
% elif total:
<svg class="bar" viewBox="0 0 {{total}} 1" preserveAspectRatio="none" aria-hidden="true">\\
% at = 0
% for state, count in counts.items():
<rect class="{{state}}" x="{{at}}" width="{{count}}" height="1"/>\\
% at += count
% end
</svg>
<p class="counts small">\\
% for state, count in counts.items():
{{!ui.state(state, f"{count} {words_of[state]}")}} \\
% end
</p>
% else:
<p class="small muted">Nothing is reported yet.</p>
% end
</article>
% end
</div>
</section>

<section aria-labelledby="systems">
<h2 id="systems">Systems</h2>
<ul class="systems">
% for each in health:
% online = each["connectivity_status"]
<li><a href="/dashboard/systems/{{each["system_id"]}}">{{!ui.state({"online": "ok", "offline": "late"}.get(online, "expected"), each["hostname"])}}</a>
<span class="small muted">{{online if online != "online" else "heard"}} {{!ui.ago(each["last_seen"], "never heard from")}}</span></li>
% end
</ul>
% if uncovered:
<p class="small"><a href="/dashboard/uncovered">{{ui.plural(uncovered, "dataset is", "datasets are")}} in no group</a></p>
% end
</section>
