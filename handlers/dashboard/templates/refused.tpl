% rebase('layout')
<section class="card">
<h1>{{title}}</h1>
<p>{{detail}}</p>
<p><a href="/dashboard">To the overview</a></p>
</section>
