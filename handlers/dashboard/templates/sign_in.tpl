% rebase('layout')
<section class="sign-in card">
<h1>Sign in</h1>
<p class="muted">With an API key: a viewer's is enough to look. It is not kept in the browser, only a signed note of which key it was.</p>
% if refused:
<p class="notice bad" role="alert">{{refused}}</p>
% end
<form method="post" action="/dashboard/sign-in">
<input type="hidden" name="form_token" value="{{visit.form_token}}">
<input type="hidden" name="next" value="{{next}}">
<label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" spellcheck="false" required autofocus>
<button class="main">Sign in</button>
</form>
<p class="muted small">No key at hand? On the machine of the witness: <code>python zfs_sync.py keys create viewer</code></p>
</section>
