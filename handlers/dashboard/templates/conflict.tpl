% rebase('layout')
<p class="crumbs"><a href="/dashboard/conflicts">Conflicts</a> / <a href="/dashboard/groups/{{conflict["sync_group_id"]}}">{{groups.get(conflict["sync_group_id"], "")}}</a></p>
<h1 class="name">{{ui.dataset(conflict["dataset"])}}</h1>
<p class="lead">{{!ui.state("conflict", conflict["type"])}} {{conflict["reason"]}}</p>
<p class="small muted">{{conflict["severity"]}} severity, {{conflict["status"]}}, first seen {{!ui.ago(conflict["detected_at"] if not isinstance(conflict["detected_at"], str) else None, conflict["detected_at"] or "now")}}.
<a href="{{ui.link("/dashboard/groups/" + conflict["sync_group_id"] + "/dataset", path=conflict["dataset"])}}">See it on the timeline</a></p>
% if refused:
<p class="notice bad" role="alert">{{refused}}</p>
% end
% if outcome:
<section class="notice {{"" if outcome["dry_run"] else "good"}}" role="status" aria-labelledby="outcome">
<h2 id="outcome">{{"This is what would happen. Nothing is decided yet." if outcome["dry_run"] else "Decided."}}</h2>
<p>{{outcome["cost"]}}</p>
% if outcome["lost"]:
<p><strong>Lost for good:</strong> {{", ".join(each["name"] for each in outcome["lost"])}} ({{ui.size(outcome["lost_bytes"])}})</p>
% end
% if outcome["actions"]:
<ol>
% for action in outcome["actions"]:
<li>{{action["reason"]}} <span class="small muted">on {{hostnames.get(action["executor_system_id"], "-")}}</span><pre tabindex="0"><code>{{action["sync_command"]}}</code></pre></li>
% end
</ol>
% end
% if not outcome["dry_run"] and outcome["actions"]:
<p>The agents carry it out, the next time they run.</p>
% end
</section>
% end
<h2>Both sides</h2>
<ul class="copies">
% for system_id, side in conflict["systems"].items():
<li class="card"><div class="line"><strong>{{side["hostname"]}}</strong></div>
<code>{{side["dataset"]}}</code>
<p class="small">\\
% if side["head"]:
Newest: {{side["head"]["name"]}}. \\
% end
% if side["newest_common"]:
In common: {{side["newest_common"]["name"]}}. \\
% else:
Nothing in common. \\
% end
% if side["written_bytes"]:
{{ui.size(side["written_bytes"])}} written since its newest snapshot.\\
% end
</p>
% if side["only_here"]:
% own = side["only_here"]
% written = [each["written"] for each in own if each["written"] is not None]
<p class="small"><strong>{{ui.plural(len(own), "snapshot")}} only here</strong>{{", " + ui.size(sum(written)) if len(written) == len(own) else ""}}: {{own[0]["name"]}}{{" to " + own[-1]["name"] if len(own) > 1 else ""}}</p>
% end
</li>
% end
</ul>
% if conflict["resolution"]:
% resolution = conflict["resolution"]
<p class="notice">{{strategies.get(resolution["strategy"], resolution["strategy"]).capitalize()}}\\
% if resolution["winner_system_id"]:
: {{hostnames.get(resolution["winner_system_id"], "-")}}\\
% end
, by {{resolution["decided_by"] or "-"}}. \\
% if conflict["status"] == "pending":
It counts as settled when the next inventories show it.\\
% end
</p>
% end
% if ways and visit.is_admin:
<section aria-labelledby="ways"><h2 id="ways">Ways out</h2>
<form method="post" class="ways">
<input type="hidden" name="form_token" value="{{visit.form_token}}">
<fieldset><legend>Whose history wins?</legend>
% chosen = form.way if form else None
% for way in ways["winners"]:
% value = f"manual/{way['winner_system_id']}"
<div class="way"><input type="radio" name="way" required id="{{value}}" value="{{value}}"\\
% if chosen == value:
 checked\\
% end
% if way["refused"]:
 disabled\\
% end
><label for="{{value}}"><strong>{{hostnames.get(way["winner_system_id"], "-")}}</strong> <span class="small">{{way["refused"] or way["cost"]}}</span></label></div>
% end
% for rule in ways["rules"]:
<div class="way"><input type="radio" name="way" id="{{rule["strategy"]}}" value="{{rule["strategy"]}}"\\
% if chosen == rule["strategy"]:
 checked\\
% end
% if rule["refused"]:
 disabled\\
% end
><label for="{{rule["strategy"]}}">By the rule: {{strategies[rule["strategy"]]}} <span class="small muted">{{rule["refused"] or "that is " + hostnames.get(rule["winner_system_id"] or "", "-")}}</span></label></div>
% end
% if ways["ignore"]:
<div class="way"><input type="radio" name="way" id="ignore" value="ignore"\\
% if chosen == "ignore":
 checked\\
% end
><label for="ignore">Nobody, for now <span class="small muted">{{ways["ignore"]["cost"]}}</span></label></div>
% end
</fieldset>
<div class="way danger"><input type="checkbox" name="discard" value="yes" id="discard"\\
% if form and form.discard:
 checked\\
% end
><label for="discard">Destroy what the others have of their own <span class="small muted">otherwise it is set aside under another name, and nothing is lost. The dry run lists what would go.</span></label></div>
<div class="buttons"><button name="step" value="dry_run" class="main">Show what would happen</button>
<button name="step" value="resolve">Decide</button></div>
</form></section>
% elif ways:
<p class="muted">An admin decides: with an admin's key, the ways out stand here.</p>
% end
