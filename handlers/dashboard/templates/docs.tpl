% rebase("layout")
<h1>{{title}}</h1>
% for words in about:
<p>{{words}}</p>
% end
<p><a href="/openapi.json">/openapi.json</a> says the same to programs.</p>
<form id="key-form" hidden>
<label for="key">API key, for the calls below</label>
<input id="key" type="password" autocomplete="off" spellcheck="false">
</form>
% for tag, operations in by_tag.items():
<h2>{{tag}}</h2>
% for each in operations:
<details id="{{each["operationId"]}}">
<summary><code>{{each["method"]}} {{each["path"]}}</code> {{each["summary"]}}</summary>
<p>{{each["description"]}}</p>
<form class="try" data-method="{{each["method"]}}" data-path="{{prefix}}{{each["path"]}}">
% for parameter in each["parameters"]:
<p><label><code>{{parameter["name"]}}</code> {{parameter["in"]}}\\
% if parameter.get("required"):
, needed\\
% end
 {{parameter["schema"].get("description", parameter.get("description", ""))}}
<input name="{{parameter["name"]}}" data-in="{{parameter["in"]}}" autocomplete="off" placeholder="{{parameter["schema"].get("default", "")}}"></label></p>
% end
% if "requestBody" in each:
% kind, content = next(iter(each["requestBody"]["content"].items()))
<p><label>Body, {{" or ".join(each["requestBody"]["content"])}}
<textarea name="body" rows="6" data-kind="{{kind}}" spellcheck="false">{{pretty(content["example"])}}</textarea></label></p>
% end
% good = next((answer for status, answer in each["answers"] if status < "300"), {})
% if len(good.get("content", {})) > 1:
<p><label>Accept <select name="accept">
% for kind in good["content"]:
<option>{{kind}}</option>
% end
</select></label></p>
% end
<p><button hidden>Try it</button></p>
<pre class="answer" tabindex="0" aria-live="polite" hidden></pre>
</form>
<h3>Answers</h3>
<ul>
% for status, answer in each["answers"]:
<li><code>{{status}}</code> {{answer["description"]}}\\
% if status < "300":
% for kind, content in answer.get("content", {}).items():
<br>{{kind}}<pre tabindex="0">{{pretty(content["example"])}}</pre>
% end
% end
</li>
% end
</ul>
</details>
% end
% end
<h2>Types</h2>
% for name, schema in schemas:
<details id="type-{{name}}"><summary><code>{{name}}</code> {{schema.get("description", "")}}</summary>
<pre tabindex="0">{{pretty(schema)}}</pre></details>
% end
<script src="/dashboard/static/docs.js" defer></script>
