<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{title}}</title></head>
<body><form action="/find"><input name="words"></form>{{!base}}</body>
</html>
