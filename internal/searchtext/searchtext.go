// Package searchtext makes of the names of people what searches and orders compare, in every script: Fold takes away in
// what ways a name can be written and typed, and AppendWordStarts says where in it a search may begin to find it.
package searchtext

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold returns a text as searches and orders by name compare it:
//   - in one case, as Unicode folds it, and without accents and other marks that people leave out; the vowel signs of
//     Indic scripts, Thai and others of their kind are letters by that measure, and stay,
//   - in compatibility forms: full-width letters, ligatures and superscripts as the letters they stand for,
//   - with letters that no decomposition takes apart as people type them: ß ss, ı i, ł l, ø o, đ d, æ ae,
//   - with one apostrophe for all that look alike, one yeh and one kaf for Arabic and Persian,
//   - without what is not seen, such as joiners and direction marks,
//   - with a single space for everything else between words, and none around,
//   - with symbols, such as emoji, as words of their own, in one color of skin.
//
// Hangul is taken apart into its letters, so that a syllable is found while it is being typed. A text of marks and
// separators alone is empty. Bytes that are not UTF-8 are as U+FFFD. Folding again changes nothing.
func Fold(text string) string {
	for i := range len(text) {
		if class := asciiClasses[text[i]]; class != 0 && text[i] != ' ' || text[i] == ' ' && (i == 0 || text[i-1] == ' ') {
			return foldFrom(text)
		}
	}
	return strings.TrimSuffix(text, " ") // it is folded already
}

// asciiClasses tells letters, digits, apostrophes and spaces (0) from what folding changes: 1 in ASCII, 2 beyond.
var asciiClasses = func() (classes [256]uint8) {
	for c := range classes {
		switch {
		case c >= utf8.RuneSelf:
			classes[c] = 2
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '\'', c == ' ':
		default:
			classes[c] = 1
		}
	}
	return classes
}()

// foldFrom is Fold for a text that it changes.
func foldFrom(text string) string {
	f := folder{folded: make([]byte, 0, len(text)+len(text)/2)}
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= utf8.RuneSelf:
			f.folded, f.gap = f.folded[:0], false
			f.fold(text)
			return string(f.folded)
		case 'A' <= c && c <= 'Z':
			f.letter(rune(c + 'a' - 'A'))
		case asciiClasses[c] == 0 && c != ' ':
			f.letter(rune(c))
		default:
			f.other(rune(c))
		}
	}
	return string(f.folded)
}

// folder writes a folded text.
type folder struct {
	folded []byte
	// gap says that a space belongs between what is written and what comes next.
	gap bool
}

// fold folds a text of any script.
func (f *folder) fold(text string) {
	var room [128]byte
	decomposed := norm.NFKD.AppendString(room[:0], strings.Map(apostrophe, text))
	for len(decomposed) > 0 {
		r, size := utf8.DecodeRune(decomposed)
		decomposed = decomposed[size:]
		switch {
		case r < utf8.RuneSelf && asciiClasses[r] == 0 && r != ' ':
			f.letter(r)
		case 'A' <= r && r <= 'Z':
			f.letter(r + 'a' - 'A')
		case r < utf8.RuneSelf:
			f.other(r)
		case r == dakuten || r == handakuten:
			f.voice(r)
		case unicode.In(r, unicode.Mn, unicode.Me):
			if !isLeftOut(r) {
				f.letter(r)
			}
		default:
			f.rune(cased(apostrophe(r)))
		}
	}
}

// rune folds what is no mark.
func (f *folder) rune(r rune) {
	if typed, ok := typedAs[r]; ok {
		for _, letter := range typed {
			f.letter(letter)
		}
		return
	}
	switch {
	case r == '\'', unicode.In(r, unicode.L, unicode.N, unicode.Mc):
		f.letter(r)
	default:
		f.other(r)
	}
}

// letter writes a letter, a digit, a mark that stays, or an apostrophe.
func (f *folder) letter(r rune) {
	if f.gap && len(f.folded) > 0 {
		f.folded = append(f.folded, ' ')
	}
	f.gap = false
	f.folded = utf8.AppendRune(f.folded, r)
}

// other writes a symbol as a word, and makes a gap of what separates words.
func (f *folder) other(r rune) {
	switch {
	case unicode.Is(unicode.Cf, r), lightestSkin <= r && r <= darkestSkin:
	case r >= utf8.RuneSelf && unicode.In(r, unicode.So, unicode.Sm, unicode.Sc):
		f.gap = true
		f.letter(r)
		f.gap = true
	case r == '`':
		f.letter('\'')
	default:
		f.gap = true
	}
}

// The marks that make another kana of the one before.
const (
	dakuten    = '\u3099'
	handakuten = '\u309a'
)

const (
	lightestSkin = '\U0001f3fb'
	darkestSkin  = '\U0001f3ff'
)

// voice puts a voicing mark onto the kana before it. Others do not take one.
func (f *folder) voice(mark rune) {
	last, size := utf8.DecodeLastRune(f.folded)
	if f.gap || size == 0 {
		return
	}
	voiced := norm.NFC.String(string([]rune{last, mark}))
	if r, length := utf8.DecodeRuneInString(voiced); length == len(voiced) {
		f.folded = utf8.AppendRune(f.folded[:len(f.folded)-size], r)
	}
}

// isLeftOut reports whether a mark is one that people leave out when they type: accents of European scripts, the vowel
// points of Hebrew and Arabic, the dots of Devanagari and its sisters, variation selectors.
func isLeftOut(mark rune) bool {
	return unicode.In(mark, unicode.Inherited, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Cyrillic, unicode.Greek) ||
		strings.ContainsRune(nuktas, mark)
}

// nuktas are the dots below letters of Indic scripts.
const nuktas = "\u093c\u09bc\u0a3c\u0abc\u0b3c\u0cbc"

// apostrophe returns the apostrophe for what looks like one.
func apostrophe(r rune) rune {
	switch r {
	case '`', '´', '\u1fef', '\u1ffd', '‘', '’', '‛', '′', 'ʹ', 'ʻ', 'ʼ', 'ʽ', 'ʾ', 'ʿ', 'ˈ', '՚', '׳', '＇', '｀':
		return '\''
	}
	return r
}

// cased returns the small letter of all that differ in case alone: ς is σ.
func cased(r rune) rune {
	if r >= '\u2e80' && r < '\ua640' { // has no case
		return r
	}
	first := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		first = min(first, other)
	}
	return unicode.ToLower(first)
}

// typedAs are letters that no decomposition takes apart, and what people type for them.
var typedAs = map[rune]string{
	'ß': "ss", 'ı': "i", 'ȷ': "j", 'ł': "l", 'ø': "o", 'đ': "d", 'ð': "d", 'ɖ': "d", 'þ': "th", 'æ': "ae", 'œ': "oe", 'ħ': "h",
	'ŧ': "t", 'ŋ': "n", 'ə': "e", 'ɓ': "b", 'ɗ': "d", 'ƙ': "k", 'ɛ': "e", 'ɔ': "o", 'ƴ': "y",
	'ـ': "",                                          // tatweel, which only stretches
	'ى': "ي", 'ی': "ي", 'ې': "ي", 'ک': "ك", 'ٱ': "ا", // as they look alike, and keyboards differ
	'ґ': "г",
}

// AppendWordStarts appends to into the places in a folded text, but for its beginning, from which on a search may find
// it: where a word begins, behind an apostrophe, and in scripts that are written without spaces, at each letter; in
// Hangul at each syllable. They are in order, and a text is found at one when it continues there with what is searched.
func AppendWordStarts(into []int, folded string) []int {
	before := none
	for i := 0; i < len(folded); {
		if c := folded[i]; c < utf8.RuneSelf {
			now := word
			if c == ' ' || c == '\'' {
				now = none
			}
			if i > 0 && now == word && before != word {
				into = append(into, i)
			}
			before = now
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(folded[i:])
		now := kindOf(r)
		switch {
		case now == continued:
			now = before
		case i > 0 && (now == single || now != before):
			into = append(into, i)
		}
		before = now
		i += size
	}
	return into
}

// kind is what a letter is to those that follow it.
type kind uint8

const (
	none      kind = iota // what is before a word
	word                  // part of a word of several letters
	single                // a word by itself
	continued             // goes with what is before it
)

func kindOf(r rune) kind {
	switch {
	case '\u1160' <= r && r <= '\u11ff', '\ud7b0' <= r && r <= '\ud7fb', // the rest of a syllable of Hangul
		r == 'ー', '\u3099' <= r && r <= '\u309e', '\u30fd' <= r && r <= '\u30fe':
		return continued
	case '\u1100' <= r && r <= '\u115f', '\ua960' <= r && r <= '\ua97c': // the first letter of one
		return single
	case '\u0e00' <= r && r <= '\u0eff', '\u1000' <= r && r <= '\u109f', '\u1780' <= r && r <= '\u17ff', // Thai to Khmer
		'\ua9e0' <= r && r <= '\ua9ff', '\uaa60' <= r && r <= '\uaa7f',
		'\u2e80' <= r && r <= '\u9fff', '\uf900' <= r && r <= '\ufaff', '\U00020000' <= r && r <= '\U000323af': // kana, Han
		switch {
		case unicode.In(r, unicode.Mn, unicode.Mc):
			return continued
		case unicode.In(r, unicode.L, unicode.Nl):
			return single
		}
	case unicode.In(r, unicode.Mn, unicode.Mc):
		return continued
	}
	return word
}
