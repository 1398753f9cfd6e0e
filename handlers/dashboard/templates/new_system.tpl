% rebase('layout')
<p class="crumbs"><a href="/dashboard/systems">Systems</a></p>
<h1>Add a system</h1>
% if commands:
<p class="notice good" role="status"><strong>{{form.hostname}} is registered.</strong> Its key is in the second step, and is shown this once. Run these as root on {{form.hostname}}.</p>
<ol class="steps">
% for words, command in commands:
<li><p>{{words}}</p><pre tabindex="0"><code>{{command}}</code></pre></li>
% end
</ol>
<p class="muted">The systems that send to it, or fetch from it, log in with ssh: put their public keys into its <code>authorized_keys</code>, best with <code>restrict,command="zfs-sync-agent guard receive {{form.root}}"</code> before them.</p>
% else:
<p class="muted">This registers it, and then shows what to paste on it: fetch the agent, write its configuration, report, and run it from cron.</p>
% if refused:
<p class="notice bad" role="alert">{{refused.detail}}</p>
% end
<section class="card narrow-form">
<form method="post" class="rows"><input type="hidden" name="form_token" value="{{visit.form_token}}">
<label for="hostname">Hostname</label><input id="hostname" name="hostname" required maxlength="253" pattern="[A-Za-z0-9]([A-Za-z0-9._\-]*[A-Za-z0-9])?" value="{{"" if is_new else form.hostname}}">
<label for="platform">Platform</label><select id="platform" name="platform">
% for each in ("linux", "freebsd", "illumos", "macos", "other"):
<option\\
% if each == form.platform:
 selected\\
% end
>{{each}}</option>
% end
</select>
<label for="ssh_hostname">Address for ssh, if not its hostname</label><input id="ssh_hostname" name="ssh_hostname" maxlength="253" value="{{form.ssh_hostname or ""}}">
<label for="ssh_user">User for ssh</label><input id="ssh_user" name="ssh_user" maxlength="32" value="{{form.ssh_user or ""}}" placeholder="root">
<label for="ssh_port">Port for ssh</label><input id="ssh_port" name="ssh_port" type="number" min="1" max="65535" value="{{form.ssh_port}}">
<label for="root">Dataset that its copies lie below</label><input id="root" name="root" maxlength="256" value="{{form.root}}">
<button class="main">Register it</button></form></section>
% end
