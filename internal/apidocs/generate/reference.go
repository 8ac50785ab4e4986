package main

import (
	"bytes"
	_ "embed" // the template is part of the program
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/api"
)

//go:embed page.html
var pageTemplate string

// renderPage makes the page for people.
func renderPage(root node) ([]byte, error) {
	parsed, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse template of the page: %w", err)
	}
	page, err := reference{root}.page()
	if err != nil {
		return nil, err
	}
	var html bytes.Buffer
	if err := parsed.Execute(&html, page); err != nil {
		return nil, fmt.Errorf("render page: %w", err)
	}
	return html.Bytes(), nil
}

// What the page shows.
type (
	pageData struct {
		Title, Version, Summary string
		Intro                   []pageSection
		Groups                  []pageGroup
		Codes                   []pageCode
	}
	pageSection struct {
		ID, Title string
		Text      []paragraph
	}
	pageGroup struct {
		ID, Name   string
		Text       []paragraph
		Operations []pageOperation
	}
	pageOperation struct {
		ID, Method, Summary   string
		Path                  []token
		Callers               []string
		Text                  []paragraph
		Parameters            []pageField
		HasBody, BodyRequired bool
		Body, Answer          []pageField
		AnswerText            []paragraph
		Request               []token
		Answers               []pageExample
		Errors                []string
	}
	pageField struct {
		Name     []string // in parts, between which it may be broken
		In, Type string
		Required bool
		Values   []string
		Text     []paragraph
	}
	pageExample struct {
		Title string
		Code  []token
	}
	pageCode struct {
		Code   string
		Status int
		Text   []paragraph
	}
)

// paragraph is a paragraph of a description, or an item of a list in it, cut into plain text and code.
type paragraph struct {
	Item  bool
	Spans []token
}

// prose reads the little Markdown that descriptions are written in: paragraphs, lists and code.
func prose(text string) []paragraph {
	var paragraphs []paragraph
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		items := strings.Split("\n"+strings.TrimSpace(block), "\n- ")
		for i, item := range items {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			spans := []token{}
			for j, part := range strings.Split(item, "`") {
				class := ""
				if j%2 == 1 {
					class = "code"
				}
				if part != "" {
					spans = append(spans, token{class, part})
				}
			}
			paragraphs = append(paragraphs, paragraph{Item: i > 0, Spans: spans})
		}
	}
	return paragraphs
}

func anchor(kind, name string) string {
	return kind + "-" + strings.ToLower(strings.ReplaceAll(name, " ", "-"))
}

// reference reads the description as a whole, since its parts refer to one another.
type reference struct{ root node }

// resolve follows a reference. What the referring side says about itself is in description.
func (r reference) resolve(n node) (target node, description string) {
	description = n.at("description").text()
	for n.at("$ref").exists() {
		n = r.root.at(strings.Split(strings.TrimPrefix(n.at("$ref").text(), "#/"), "/")...)
		if description == "" {
			description = n.at("description").text()
		}
	}
	return n, description
}

func (r reference) page() (pageData, error) {
	info := r.root.at("info")
	page := pageData{
		Title: info.at("title").text(), Version: info.at("version").text(), Summary: info.at("summary").text(),
	}
	for i, section := range strings.Split(info.at("description").text(), "\n## ") {
		title, text := "Introduction", section
		if i > 0 {
			title, text, _ = strings.Cut(section, "\n")
		}
		page.Intro = append(page.Intro, pageSection{ID: anchor("about", title), Title: title, Text: prose(text)})
	}
	operations, err := r.operations()
	if err != nil {
		return page, err
	}
	for tag := range r.root.at("tags").items() {
		name := tag.at("name").text()
		page.Groups = append(page.Groups, pageGroup{
			ID: anchor("group", name), Name: name, Text: prose(tag.at("description").text()), Operations: operations[name],
		})
	}
	meanings := r.root.at("components", "schemas", "Error", "properties", "code", "x-enumDescriptions")
	for code, meaning := range meanings.members() {
		page.Codes = append(page.Codes, pageCode{Code: code, Status: api.Code(code).Status(), Text: prose(meaning.text())})
	}
	return page, nil
}

// operations returns the calls by tag.
func (r reference) operations() (map[string][]pageOperation, error) {
	byTag := map[string][]pageOperation{}
	for path, item := range r.root.at("paths").members() {
		for method, described := range item.members() {
			if !described.at("operationId").exists() {
				continue // what the calls of the path have in common
			}
			operation, err := r.operation(path, strings.ToUpper(method), item, described)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			for _, tag := range described.at("tags").words() {
				byTag[tag] = append(byTag[tag], operation)
			}
		}
	}
	return byTag, nil
}

func (r reference) operation(path, method string, item, described node) (pageOperation, error) {
	operation := pageOperation{
		ID: described.at("operationId").text(), Method: method, Path: pathTokens(path),
		Summary: described.at("summary").text(), Text: prose(described.at("description").text()),
		Callers: callers(described.at("security")), Errors: described.at("x-errors").words(),
	}
	var parameters []node
	for _, list := range []node{item.at("parameters"), described.at("parameters")} {
		for parameter := range list.items() {
			parameter, _ = r.resolve(parameter)
			parameters = append(parameters, parameter)
			operation.Parameters = append(operation.Parameters, r.parameter(parameter))
		}
	}
	body := described.at("requestBody")
	content := body.at("content", "application/json")
	operation.HasBody, operation.BodyRequired = content.exists(), body.at("required").value == true
	operation.Body = r.fields(content.at("schema"), "")
	response, description := r.resolve(described.at("responses", "200"))
	operation.AnswerText = prose(description)
	operation.Answer = r.fields(response.at("content", "application/json", "schema"), "")
	var err error
	operation.Request, err = r.curl(path, method, described.at("security"), parameters, content.at("example"))
	if err != nil {
		return operation, err
	}
	operation.Answers, err = answers(response)
	return operation, err
}

// pathTokens cuts a path before each slash, where it may be broken, and marks its parameters.
func pathTokens(path string) []token {
	var tokens []token
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		class := ""
		if strings.HasPrefix(segment, "{") {
			class = "param"
		}
		tokens = append(tokens, token{"slash", "/"}, token{class, segment})
	}
	return tokens
}

// callers says who may make a call that demands one of the given sets of credentials.
func callers(security node) []string {
	var callers []string
	for credentials := range security.items() {
		scopes := credentials.at("apiKey")
		switch {
		case scopes.exists() && len(scopes.words()) > 0:
			callers = append(callers, "API key of scope "+strings.Join(scopes.words(), ", "))
		case scopes.exists():
			callers = append(callers, "API key of any scope")
		case credentials.at("authToken").exists():
			callers = append(callers, "Logged-in user, with an auth token")
		case credentials.at("managementKey").exists():
			callers = append(callers, "Operator, with the management key and secret")
		}
	}
	if len(callers) == 0 {
		return []string{"Everybody"}
	}
	return callers
}

func (r reference) parameter(parameter node) pageField {
	schema, _ := r.resolve(parameter.at("schema"))
	values := valuesOf(schema)
	if items := schema.at("items"); items.exists() {
		values = append(values, valuesOf(items)...)
	}
	return pageField{
		Name: []string{parameter.at("name").text()}, In: parameter.at("in").text(), Type: r.typeName(schema),
		Values: values, Required: parameter.at("required").value == true,
		Text: prose(parameter.at("description").text()),
	}
}

// fields lists the members of an object, those of the objects in it included, under names such as "a.b" and "a[].b".
func (r reference) fields(schema node, prefix string) []pageField {
	var fields []pageField
	schema, _ = r.resolve(schema)
	required := schema.at("required").words()
	for name, property := range schema.at("properties").members() {
		target, description := r.resolve(property)
		field := pageField{
			Name: strings.SplitAfter(prefix+name, "."), Type: r.typeName(target), Values: valuesOf(target),
			Required: slices.Contains(required, name), Text: prose(description),
		}
		if items := target.at("items"); items.exists() {
			field.Values = append(field.Values, valuesOf(items)...)
		}
		// The envelope itself is the same everywhere: only what is in it is worth a line.
		if prefix != "" || (name != "data" && name != "meta") || description != "" {
			fields = append(fields, field)
		}
		fields = append(fields, r.fields(target, prefix+name+".")...)
	}
	trimmed := strings.TrimSuffix(prefix, ".")
	if items := schema.at("items"); items.exists() && prefix != "" {
		fields = append(fields, r.fields(items, trimmed+"[].")...)
	}
	if values := schema.at("additionalProperties"); values.at("$ref").exists() && prefix != "" {
		fields = append(fields, r.fields(values, trimmed+".*.")...)
	}
	for _, keyword := range []string{"anyOf", "oneOf"} {
		for variant := range schema.at(keyword).items() {
			for _, field := range r.fields(variant, prefix) {
				field.Required = field.Required && keyword != "oneOf"
				fields = append(fields, field)
			}
		}
	}
	return fields
}

// typeName says in a word or two what a schema takes. Null is left out: the introduction says what it means.
func (r reference) typeName(schema node) string {
	if title := schema.at("title").text(); title != "" {
		return title
	}
	var names []string
	for _, keyword := range []string{"anyOf", "oneOf"} {
		for variant := range schema.at(keyword).items() {
			variant, _ = r.resolve(variant)
			names = append(names, r.typeName(variant))
		}
	}
	for _, name := range schema.at("type").words() {
		switch items, _ := r.resolve(schema.at("items")); {
		case name == "null":
			continue
		case name == "array" && items.exists():
			name = "list of " + r.typeName(items) + "s"
		case name == "array":
			name = "list"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "any"
	}
	return strings.Join(slices.Compact(names), " or ")
}

// valuesOf lists the values that a schema is limited to, without those that stand for none.
func valuesOf(schema node) []string {
	values := schema.at("enum").words()
	if only := schema.at("const").text(); only != "" {
		values = append(values, only)
	}
	return values
}

// curl returns an example of a call, to be pasted into a shell.
func (r reference) curl(path, method string, security node, parameters []node, body node) ([]token, error) {
	address, query := path, ""
	for _, parameter := range parameters {
		name, example := parameter.at("name").text(), parameter.at("example")
		switch {
		case parameter.at("in").text() == "path":
			address = strings.ReplaceAll(address, "{"+name+"}", fmt.Sprint(example.value))
		case parameter.at("in").text() == "query" && parameter.at("required").value == true:
			query += "&" + name + "=" + fmt.Sprint(example.value)
		}
	}
	if query != "" {
		address += "?" + query[1:]
	}
	version := ""
	var headers []string
	for credentials := range security.items() {
		for scheme := range credentials.members() {
			name := r.root.at("components", "securitySchemes", scheme, "name").text()
			headers = append(headers, "-H '"+name+": "+placeholder(scheme)+"'")
		}
		version = "/v3"
		break // one set of credentials is enough
	}
	command := "curl "
	if method != "GET" {
		command += "-X " + method + " "
	}
	tokens := []token{{"", command + "'https://chat.example.com" + version + address + "'"}}
	if body.exists() {
		headers = append(headers, "-H 'content-type: application/json'")
	}
	for _, header := range headers {
		tokens = append(tokens, token{"", " \\\n  " + header})
	}
	if !body.exists() {
		return tokens, nil
	}
	inner, err := body.json("")
	if err != nil {
		return nil, err
	}
	tokens = append(tokens, token{"", " \\\n  -d '"})
	for _, token := range inner {
		token.Text = strings.ReplaceAll(token.Text, "'", `'\''`)
		tokens = append(tokens, token)
	}
	return append(tokens, token{"", "'"}), nil
}

func placeholder(scheme string) string {
	switch scheme {
	case "appId":
		return "APP_ID"
	case "apiKey":
		return "API_KEY"
	case "authToken":
		return "AUTH_TOKEN"
	case "managementKey":
		return "MANAGEMENT_KEY"
	default:
		return "MANAGEMENT_SECRET"
	}
}

// answers returns the examples of a response.
func answers(response node) ([]pageExample, error) {
	var examples []pageExample
	add := func(title string, example node) error {
		if text := example.text(); text != "" {
			examples = append(examples, pageExample{Title: title, Code: []token{{"", strings.TrimSpace(text)}}})
			return nil
		}
		code, err := example.json("")
		examples = append(examples, pageExample{Title: title, Code: code})
		return err
	}
	for mediaType, content := range response.at("content").members() {
		title := "200 " + mediaType
		if example := content.at("example"); example.exists() {
			if err := add(title, example); err != nil {
				return nil, err
			}
		}
		for _, example := range content.at("examples").members() {
			if err := add(title+", "+strings.ToLower(example.at("summary").text()), example.at("value")); err != nil {
				return nil, err
			}
		}
	}
	return examples, nil
}
