<ul class="transfers">
% for transfer in transfers:
<li>
<div class="line"><span><strong>{{transfer.dataset}}</strong> <span class="muted">{{transfer.source}} → {{transfer.target}}</span></span>
<span class="figures">\\
% if transfer.percent is not None:
<b>{{transfer.percent}} %</b> \\
% end
% if transfer.rate:
<span class="muted">{{ui.size(transfer.rate)}}/s</span>\\
% end
</span></div>
% label = f"{transfer.dataset} from {transfer.source} to {transfer.target}"
% if transfer.percent is not None:
<progress value="{{transfer.bytes_done}}" max="{{max(transfer.bytes_total, transfer.bytes_done)}}" aria-label="{{label}}"></progress>
% else:
<progress aria-label="{{label}}"></progress>
% end
<div class="line small muted"><span>\\
% if transfer.bytes_done is not None:
{{ui.size(transfer.bytes_done)}} of {{ui.size(transfer.bytes_total)}}, \\
% end
started {{!ui.ago(transfer.started_at)}}\\
% if transfer.ends_at and transfer.ends_at > ui.now:
, done about {{ui.at(transfer.ends_at)}}\\
% end
</span><span>heard {{!ui.ago(transfer.heard_at)}}</span></div>
</li>
% end
</ul>
