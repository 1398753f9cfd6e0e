<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="version" content="{{!version_mark}}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{{title}} · ZFS Sync</title>
<link rel="icon" href="/dashboard/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/dashboard/static/dashboard.css">
<script src="/dashboard/static/dashboard.js" defer></script>
</head>
<body\\
% if is_live:
 data-live\\
% end
>
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
<a class="brand" href="/dashboard"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 7h16M4 12h11M4 17h6"/><path class="lead" d="M15 17l3 3 4-6"/></svg> ZFS Sync</a>
% if visit.is_signed_in:
% here = visit.here.partition("?")[0]
% pages = [("/dashboard", "Overview"), ("/dashboard/conflicts", "Conflicts"), ("/dashboard/transfers", "Transfers"), ("/dashboard/systems", "Systems")]
% pages += [("/dashboard/events", "Events")] if visit.request.caller.role in ("admin", "viewer") else []
% pages += [("/dashboard/keys", "Keys")] if visit.is_admin else []
<nav aria-label="Pages">
% for path, words in pages:
<a href="{{path}}"\\
% if here == path or (path != "/dashboard" and here.startswith(path + "/")):
 aria-current="page"\\
% end
>{{words}}</a>
% end
</nav>
<form class="out" method="post" action="/dashboard/sign-out">
<input type="hidden" name="form_token" value="{{visit.form_token}}">
<span class="who">{{visit.request.caller.role}}</span>
<button class="quiet">Sign out</button>
</form>
% end
</header>
<p id="stale" class="notice bad" role="status" hidden></p>
% if groups_error:
<div class="notice bad" role="alert"><strong>The last edit of the sync groups could not be used.</strong> The groups from before it stay in force. <code>{{groups_error}}</code></div>
% end
<main id="main" tabindex="-1">
{{!base}}
</main>
<footer><span>Times are UTC. Snapshots are compared by guid, never by name.</span> <a href="/docs">API</a></footer>
</body>
</html>
