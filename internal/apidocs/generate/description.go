package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

func readDescription(text []byte) (node, error) {
	var root any
	if err := yaml.UnmarshalWithOptions(text, &root, yaml.UseOrderedMap()); err != nil {
		return node{}, fmt.Errorf("read API description: %w", err)
	}
	return node{root}, nil
}

// node is a part of the API description. What is not there is a node too, an empty one. Maps keep the order in which
// they were written, since it is the order to read them in.
type node struct{ value any }

// at follows a path of keys.
func (n node) at(keys ...string) node {
	for _, key := range keys {
		next := node{}
		for name, member := range n.members() {
			if name == key {
				next = member
			}
		}
		n = next
	}
	return n
}

func (n node) exists() bool { return n.value != nil }

func (n node) text() string {
	text, _ := n.value.(string)
	return text
}

// words returns the strings of a list, or the one string in place of a list.
func (n node) words() []string {
	if text := n.text(); text != "" {
		return []string{text}
	}
	var words []string
	for item := range n.items() {
		if text := item.text(); text != "" {
			words = append(words, text)
		}
	}
	return words
}

func (n node) items() iter.Seq[node] {
	return func(yield func(node) bool) {
		list, _ := n.value.([]any)
		for _, item := range list {
			if !yield(node{item}) {
				return
			}
		}
	}
}

func (n node) members() iter.Seq2[string, node] {
	return func(yield func(string, node) bool) {
		members, _ := n.value.(yaml.MapSlice)
		for _, member := range members {
			if !yield(fmt.Sprint(member.Key), node{member.Value}) {
				return
			}
		}
	}
}

// token is a piece of code. Class says how it is coloured; it is empty for what is not.
type token struct{ Class, Text string }

// json returns the node as indented JSON.
func (n node) json(indent string) ([]token, error) {
	deeper := indent + "  "
	switch value := n.value.(type) {
	case yaml.MapSlice:
		if len(value) == 0 {
			return []token{{"", "{}"}}, nil
		}
		var tokens []token
		before := "{\n"
		for _, member := range value {
			key, err := jsonText(fmt.Sprint(member.Key))
			if err != nil {
				return nil, err
			}
			inner, err := node{member.Value}.json(deeper)
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, token{"", before + deeper}, token{"key", key}, token{"", ": "})
			tokens = append(tokens, inner...)
			before = ",\n"
		}
		return append(tokens, token{"", "\n" + indent + "}"}), nil
	case []any:
		// A list of plain values goes on one line.
		before, between, after := "[", ", ", "]"
		if slices.ContainsFunc(value, isNested) {
			before, between, after = "[\n"+deeper, ",\n"+deeper, "\n"+indent+"]"
		}
		tokens := []token{{"", before}}
		for i, item := range value {
			inner, err := node{item}.json(deeper)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				tokens = append(tokens, token{"", between})
			}
			tokens = append(tokens, inner...)
		}
		return append(tokens, token{"", after}), nil
	default:
		text, err := jsonText(value)
		class := "literal"
		if _, isText := value.(string); isText {
			class = "string"
		}
		return []token{{class, text}}, err
	}
}

func isNested(value any) bool {
	switch value.(type) {
	case yaml.MapSlice, []any:
		return true
	}
	return false
}

func jsonText(value any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", fmt.Errorf("encode API description: %w", err)
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

func (n node) compactJSON() ([]byte, error) {
	tokens, err := n.json("")
	if err != nil {
		return nil, err
	}
	var indented, compact bytes.Buffer
	for _, token := range tokens {
		indented.WriteString(token.Text)
	}
	if err := json.Compact(&compact, indented.Bytes()); err != nil {
		return nil, fmt.Errorf("encode API description: %w", err)
	}
	return compact.Bytes(), nil
}
