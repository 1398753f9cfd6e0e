% if shown["before"] or shown["after"]:
<nav class="paging" aria-label="Parts: {{noun}}"><span class="muted">{{noun}} {{shown["first"]}} to {{shown["last"]}} of {{shown["count"]}}</span>
% if shown["before"]:
<a href="{{shown["before"]}}" rel="prev">before</a>
% end
% if shown["after"]:
<a href="{{shown["after"]}}" rel="next">next</a>
% end
</nav>
% end
