% rebase('layout.tpl', title='Notes')
<p>You have been here {{visits}} times.</p>
% for note in notes:
<h2><a href="/note/{{note['id']}}">{{note['title']}}</a></h2>
<p>{{note['text'][:70]}}…</p>
% end
<form method="post"><input name="title"><textarea name="text"></textarea></form>
