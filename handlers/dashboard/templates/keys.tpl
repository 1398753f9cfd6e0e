% rebase('layout')
<h1>Keys</h1>
% if made:
<section class="notice good" role="status"><h2>The new key</h2><p><code class="key">{{made}}</code></p><p>It is shown this once: only a hash of it is kept. Copy it now.</p></section>
% end
<div class="scroll" tabindex="0" role="region" aria-label="Keys">
<table class="stack"><thead><tr><th scope="col">Key</th><th scope="col">Role</th><th scope="col">For</th><th scope="col">Made</th><th scope="col">Change</th></tr></thead><tbody>
% for key in keys:
% own = key["id"] == visit.request.caller.key_id
<tr><th scope="row"><code>{{key["id"]}}</code>\\
% if own:
 <span class="tag">yours</span>\\
% end
</th><td data-label="Role">{{key["role"]}}</td><td data-label="For">{{" ".join(filter(None, (key["hostname"], key["label"]))) or "–"}}</td>
<td data-label="Made">{{!ui.ago(key["created_at"])}}\\
% if key["expires_at"]:
<small>ends {{ui.at(key["expires_at"])}}</small>\\
% end
</td><td data-label="Change">\\
% if key["label"] == "configured":
<span class="small muted">set in the configuration</span>\\
% else:
<details id="key-{{key["id"]}}"><summary>rotate or revoke</summary>
<form method="post" action="/dashboard/keys/rotate"><input type="hidden" name="form_token" value="{{visit.form_token}}"><input type="hidden" name="key" value="{{key["id"]}}">
<label>The old one works for <select name="grace_s"><option value="{{grace_s}}">{{ui.span(grace_s)}}</option><option value="3600">1 h</option><option value="0">no longer</option></select></label> <button>Rotate</button></form>
% if not own:
<form method="post" action="/dashboard/keys/revoke"><input type="hidden" name="form_token" value="{{visit.form_token}}"><input type="hidden" name="key" value="{{key["id"]}}">
<label><input type="checkbox" name="sure" value="yes" required> worthless at once</label> <button class="bad">Revoke</button></form>
% end
</details>\\
% end
</td></tr>
% end
</tbody></table></div>
<section class="card narrow-form"><h2>A new key</h2>
<form method="post" action="/dashboard/keys" class="rows"><input type="hidden" name="form_token" value="{{visit.form_token}}">
<label for="role">Role</label><select id="role" name="role">
% for role, words in roles.items():
<option value="{{role}}">{{role}}: {{words}}</option>
% end
</select>
<label for="system">System, for an agent's</label><select id="system" name="system_id"><option value="">–</option>
% for system in systems:
<option value="{{system.id}}">{{system.hostname}}</option>
% end
</select>
<label for="label">What it is for</label><input id="label" name="label" maxlength="200" placeholder="a reminder">
<button class="main">Make it</button></form></section>
