// Package searchtext is a stand-in.
package searchtext

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Fold folds.
func Fold(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(text))
	return strings.Join(strings.Fields(strings.ToLower(text)), " ")
}

// AppendWordStarts appends.
func AppendWordStarts(into []int, folded string) []int {
	for i := range len(folded) {
		if folded[i] == ' ' {
			into = append(into, i+1)
		}
	}
	return into
}
