% rebase('layout')
<h1>Transfers</h1>
% if transfers:
% include('transfer_list')
% else:
<p>{{!ui.state("ok", "Nothing runs now.")}}</p>
% end
% if failures:
<h2>Failed lately</h2>
<ul class="troubles">
% for failure, hostname in failures[:50]:
<li class="late"><div>{{!ui.state("error", f"{failure.count} times" if failure.count > 1 else "once")}}
<span class="what"><strong>{{failure.target_dataset}}</strong> on {{hostname}} <span class="small muted log">{{failure.message[-400:] or f"exit status {failure.exit_status}"}}</span></span>
<span class="since">{{!ui.ago(failure.failed_at)}}<span class="small muted">\\
% if failure.retry_at > ui.now:
again at {{ui.at(failure.retry_at)}}\\
% else:
may be tried again now\\
% end
</span></span></div></li>
% end
</ul>
% end
