% rebase('layout')
<h1>Events</h1>
<form class="filter" method="get" role="search"><label for="what">What</label>
<input id="what" name="what" type="search" value="{{query.what or ""}}" placeholder="for example conflict.resolved">
<button>Show</button></form>
% if not events:
<p class="muted">Nothing of that kind.</p>
% else:
<div class="scroll" tabindex="0" role="region" aria-label="Events">
<table class="stack events"><thead><tr><th scope="col">When</th><th scope="col">What</th><th scope="col">About</th><th scope="col">Who</th><th scope="col">From</th></tr></thead><tbody>
% for event in events:
<tr><td data-label="When">{{!ui.ago(event["at"])}}</td><th scope="row" data-label="What">{{event["what"]}}</th>
<td data-label="About">{{event["subject"] or "–"}}<small>{{", ".join(filter(None, (hostnames.get(event["system_id"] or ""), groups.get(event["sync_group_id"] or ""))))}}</small></td>
<td data-label="Who">{{event["who"] or "nobody"}}<small>{{event["role"] or ""}}</small></td><td data-label="From">{{event["address"] or "–"}}</td></tr>
% end
</tbody></table></div>
% include('paging', shown=event_pages, noun="events")
% end
