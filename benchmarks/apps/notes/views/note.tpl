% rebase('layout.tpl', title=note['title'])
<h1>{{note['title']}}</h1>
<p>{{note['text']}}</p>
<p>{{note['written']}}</p>
