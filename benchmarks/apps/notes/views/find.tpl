% rebase('layout.tpl', title='Found')
<p>{{words}}:</p>
<ol>
% for one in found:
<li><a href="/note/{{one['id']}}">{{one['title']}}</a> {{!one['part']}}</li>
% end
</ol>
