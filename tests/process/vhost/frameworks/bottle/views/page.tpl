<!doctype html>
<title>bottle</title>
<h1>{{name}}</h1>
<p>{{text}}</p>
<a href="{{link}}">again</a>
