// Package searchtext makes of the names of people what searches and orders compare, in every script: Fold takes away in
// what ways a name can be written and typed, and AppendWordStarts says where in it a search may begin to find it.
package searchtext

import (
	"bytes"
	"slices"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold returns a text as searches and orders by name compare it:
//   - in one case, as Unicode folds it, and without accents and other marks that people leave out; the vowel signs of
//     Indic scripts, Thai and others of their kind are letters by that measure, and stay,
//   - in compatibility forms: full-width letters, ligatures and superscripts as the letters they stand for,
//   - with letters that no decomposition takes apart as people type them: ß ss, ı i, ł l, ø o, đ d, æ ae,
//   - with one apostrophe for all that look alike, where it stands between letters; elsewhere it separates,
//   - with one yeh, one kaf and one heh for Arabic, Persian and Urdu,
//   - without what is not seen, such as joiners and direction marks,
//   - with a single space for everything else between words, and none around,
//   - with symbols, such as emoji, as words of their own, in one color of skin.
//
// Hangul is taken apart into its letters, so that a syllable is found while it is being typed. A mark that stays needs
// a letter before it: a text of marks, apostrophes and separators alone is empty. Bytes that are not UTF-8 are as
// U+FFFD. Folding again changes nothing, and texts that Unicode holds canonically equivalent fold alike.
func Fold(text string) string {
	for i := range len(text) {
		c := text[i]
		if letter := asciiLetters[c]; letter == c && letter != 0 {
			continue
		}
		inside := (c == ' ' || c == '\'') && 0 < i && i+1 < len(text)
		if !inside || asciiLetters[text[i+1]] == 0 || asciiLetters[text[i+1]] != text[i+1] {
			if folded, ascii := foldASCII(text); ascii {
				return folded
			}
			return foldUnicode(text)
		}
	}
	return text // it is folded already
}

// asciiLetters are the letters and digits of ASCII by what they fold from.
var asciiLetters = func() (letters [256]byte) {
	for c := range byte(utf8.RuneSelf) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			letters[c] = c
		case 'A' <= c && c <= 'Z':
			letters[c] = c + 'a' - 'A'
		}
	}
	return letters
}()

// foldASCII is Fold for a text of ASCII alone, if it is one.
func foldASCII(text string) (folded string, ascii bool) {
	var room [128]byte
	into, pending := room[:0], byte(0)
	for i := range len(text) {
		c := text[i]
		if c >= utf8.RuneSelf {
			return "", false
		}
		if letter := asciiLetters[c]; letter != 0 {
			into, pending = append(separated(into, pending), letter), 0
		} else {
			pending = separator(c, into, pending)
		}
	}
	return string(into), true
}

// separated writes the separator that is pending behind a word, now that another one comes.
func separated(into []byte, pending byte) []byte {
	if pending != 0 && len(into) > 0 {
		into = append(into, pending)
	}
	return into
}

// separator returns what is pending behind a word after another separator of ASCII. An apostrophe stays where it is the
// only one; what two of them are is a quotation mark.
func separator(c byte, into []byte, pending byte) byte {
	if (c == '\'' || c == '`') && pending == 0 && len(into) > 0 {
		return '\''
	}
	return ' '
}

// foldUnicode is Fold for a text of any script.
func foldUnicode(text string) string {
	f := folder{folded: make([]byte, 0, len(text)+len(text)/2)}
	for i := 0; i < len(text); {
		if c := text[i]; c < utf8.RuneSelf {
			f.ascii(c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		f.decompose(r, text[i:i+size])
		i += size
	}
	return string(f.folded)
}

// folder writes a folded text.
type folder struct {
	folded []byte
	// pending is the space or the apostrophe that belongs between what is written and what comes next, or 0.
	pending byte
}

func (f *folder) ascii(c byte) {
	if letter := asciiLetters[c]; letter != 0 {
		f.folded, f.pending = append(separated(f.folded, f.pending), letter), 0
	} else {
		f.pending = separator(c, f.folded, f.pending)
	}
}

// decompose folds what a rune beyond ASCII is composed of. What its decomposition would hide is looked at before.
func (f *folder) decompose(r rune, encoded string) {
	switch {
	case r == '´', r == '\u1ffd':
		f.ascii('\'')
	case r == 'և':
		f.letters("եվ")
	case firstSyllable <= r && r <= lastSyllable:
		f.syllable(r - firstSyllable)
	default:
		decomposed := norm.NFKD.PropertiesString(encoded).Decomposition()
		if decomposed == nil {
			f.rune(r)
			return
		}
		for len(decomposed) > 0 {
			r, size := utf8.DecodeRune(decomposed)
			decomposed = decomposed[size:]
			if r < utf8.RuneSelf {
				f.ascii(byte(r))
			} else {
				f.rune(r)
			}
		}
	}
}

const (
	firstSyllable = '가'
	lastSyllable  = '힣'
)

// syllable writes the letters of a syllable of Hangul, given by its number.
func (f *folder) syllable(number rune) {
	const vowels, finals = 21, 28
	f.letter('\u1100' + number/(vowels*finals))
	f.letter('\u1161' + number/finals%vowels)
	if final := number % finals; final > 0 {
		f.letter('\u11a7' + final)
	}
}

// rune folds a rune beyond ASCII that nothing takes apart.
func (f *folder) rune(r rune) {
	switch {
	case '\u0300' <= r && r <= '\u036f', isUnseen(r): // accents of Latin, Greek and Cyrillic
		return
	case isApostrophe(r):
		f.ascii('\'')
		return
	case isHan(r):
		f.letter(r)
		return
	case isEmoji(r):
		f.symbol(r)
		return
	}
	r = cased(r)
	switch typed := typedAs(r); {
	case typed != "":
		f.letters(typed)
	case r == 'ւ' && bytes.HasSuffix(f.folded, []byte("ե")): // what և was before, and is in capitals
		f.letter('վ')
	case unicode.IsLetter(r), unicode.IsNumber(r):
		f.letter(r)
	case unicode.IsMark(r):
		if !isLeftOut(r) {
			f.mark(r)
		}
	case unicode.Is(unicode.Cf, r):
	case isSymbol(r):
		f.symbol(r)
	default:
		f.pending = ' '
	}
}

// letters writes several letters.
func (f *folder) letters(text string) {
	for _, r := range text {
		f.letter(r)
	}
}

// letter writes a letter, a digit or a symbol.
func (f *folder) letter(r rune) {
	f.folded, f.pending = utf8.AppendRune(separated(f.folded, f.pending), r), 0
}

// symbol writes a symbol, which is a word by itself.
func (f *folder) symbol(r rune) {
	f.pending = ' '
	f.letter(r)
	f.pending = ' '
}

// The marks that make another kana of the one before.
const (
	dakuten    = '\u3099'
	handakuten = '\u309a'
)

// mark writes a mark onto the letter before it, if there is one, in the order that Unicode gives the marks of a letter:
// what stood between them may have been left out.
func (f *folder) mark(mark rune) {
	if f.pending != 0 || len(f.folded) == 0 {
		return
	}
	if mark == dakuten || mark == handakuten {
		f.voice(f.behind(0), mark)
		return
	}
	end := len(f.folded)
	if class := combiningClass(string(mark)); class > 0 {
		end = f.behind(class)
	}
	f.folded = slices.Insert(f.folded, end, []byte(string(mark))...)
}

// behind returns the end of the last letter, or of the last mark on it whose class is at most the one given.
func (f *folder) behind(class uint8) int {
	end := len(f.folded)
	for end > 0 {
		_, size := utf8.DecodeLastRune(f.folded[:end])
		if combiningClass(string(f.folded[end-size:end])) <= class {
			break
		}
		end -= size
	}
	return end
}

func combiningClass(encoded string) uint8 { return norm.NFD.PropertiesString(encoded).CCC() }

// voice makes another kana of the one that ends at end. Other letters do not take the mark.
func (f *folder) voice(end int, mark rune) {
	last, size := utf8.DecodeLastRune(f.folded[:end])
	voiced := norm.NFC.String(string([]rune{last, mark}))
	if utf8.RuneCountInString(voiced) == 1 {
		f.folded = slices.Replace(f.folded, end-size, end, []byte(voiced)...)
	}
}

// isLeftOut reports whether a mark is one that people leave out when they type: accents of European scripts, the vowel
// points of Hebrew and Arabic, the dots of Devanagari and its sisters, variation selectors.
func isLeftOut(mark rune) bool {
	switch mark {
	case dakuten, handakuten:
		return false
	case '\u093c', '\u09bc', '\u0a3c', '\u0abc', '\u0b3c', '\u0c3c', '\u0cbc': // the dots below letters of Indic scripts
		return true
	}
	return unicode.In(mark, unicode.Inherited, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Cyrillic,
		unicode.Greek)
}

// isUnseen reports whether a letter, a mark or a symbol shows nothing by itself.
func isUnseen(r rune) bool {
	switch r {
	case '\u200b', '\u200c', '\u200d', '\u200e', '\u200f', '\ufe0e', '\ufe0f', // the most usual of the format characters
		'ـ',                // tatweel, which only stretches
		'\u115f', '\u1160', // Hangul fillers, of which blank names are made
		'\u17b4', '\u17b5', // vowels of Khmer that are not written
		'\u180b', '\u180c', '\u180d', '\u180f', // variation selectors of Mongolian
		'\U0001f3fb', '\U0001f3fc', '\U0001f3fd', '\U0001f3fe', '\U0001f3ff': // colors of skin
		return true
	}
	return false
}

// isApostrophe reports whether a rune beyond ASCII looks like an apostrophe.
func isApostrophe(r rune) bool {
	switch r {
	case '‘', '’', '‛', '′', '‵', '❛', '❜', 'ʹ', 'ʻ', 'ʼ', 'ʽ', 'ʾ', 'ʿ', 'ˈ', 'ˊ', 'ˋ', 'Ꞌ', 'ꞌ', '՚', '׳', 'ߴ', 'ߵ':
		return true
	}
	return false
}

// isHan reports whether a rune is a Chinese character; those of the planes for them that Unicode has yet to assign too.
func isHan(r rune) bool {
	return '\u3400' <= r && r <= '\u4dbf' || '\u4e00' <= r && r <= '\u9fff' || '\U00020000' <= r && r <= '\U0003fffd'
}

// isEmoji reports whether a rune is an emoji or a sign beside them; those that Unicode has yet to assign too.
func isEmoji(r rune) bool { return '\U0001f000' <= r && r <= '\U0001fbff' }

// isSymbol reports whether a rune is a word by itself, such as a sign or a currency, and not like punctuation.
func isSymbol(r rune) bool {
	switch r {
	case '⁄', '∕', '−', '∙', '⋅', '∣', '∼', '∶', '\u2800': // the last is the blank of Braille
		return false
	}
	return unicode.In(r, unicode.So, unicode.Sm, unicode.Sc)
}

// cased returns the small letter of all that differ in case alone: ς is σ. Going through the capital letter does what
// following unicode.SimpleFold would, which counts a mark, U+0345, among the cases of ι.
func cased(r rune) rune {
	if '\u0590' <= r && r < '\u10a0' || '\u2e80' <= r && r < '\ua640' { // has no case
		return r
	}
	return unicode.ToLower(unicode.ToUpper(r))
}

// typedAs returns what people type for a letter that no decomposition takes apart, or nothing.
func typedAs(r rune) string {
	switch r {
	case 'ß':
		return "ss"
	case 'þ':
		return "th"
	case 'æ':
		return "ae"
	case 'œ':
		return "oe"
	case 'ⱥ':
		return "a"
	case 'ɓ', 'ƀ':
		return "b"
	case 'ȼ':
		return "c"
	case 'đ', 'ð', 'ɖ', 'ɗ':
		return "d"
	case 'ə', 'ǝ', 'ɛ', 'ɇ':
		return "e"
	case 'ƒ':
		return "f"
	case 'ǥ', 'ɣ':
		return "g"
	case 'ħ':
		return "h"
	case 'ɨ', 'ɩ':
		return "i"
	case 'ȷ', 'ɉ':
		return "j"
	case 'ƙ', 'ĸ':
		return "k"
	case 'ł', 'ƚ', 'ɫ':
		return "l"
	case 'ŋ', 'ɲ':
		return "n"
	case 'ø', 'ɔ':
		return "o"
	case 'ƥ':
		return "p"
	case 'ɍ':
		return "r"
	case 'ŧ', 'ƭ':
		return "t"
	case 'ʉ':
		return "u"
	case 'ʋ':
		return "v"
	case 'ƴ', 'ɏ':
		return "y"
	case 'ƶ', 'ʒ':
		return "z"
	case 'ґ':
		return "г"
	// These look alike in Arabic, Persian, Urdu and Kurdish, and keyboards differ.
	case 'ى', 'ی', 'ې':
		return "ي"
	case 'ک':
		return "ك"
	case 'ٱ':
		return "ا"
	case 'ہ', 'ە':
		return "ه"
	case 'ۃ':
		return "ة"
	}
	return ""
}

// AppendWordStarts appends to into the places in a folded text, but for its beginning, from which on a search may find
// it: where a word begins, behind an apostrophe, and in scripts that are written without spaces, at each letter but
// those that are written under another one; in Hangul at each syllable, and where such a script meets another one. They
// are in order, and a text is found at one when it continues there with what is searched.
func AppendWordStarts(into []int, folded string) []int {
	before := none
	for i := 0; i < len(folded); {
		now, size := word, 1
		switch c := folded[i]; {
		case c == ' ', c == '\'':
			now = none
		case c >= utf8.RuneSelf:
			var r rune
			r, size = utf8.DecodeRuneInString(folded[i:])
			now = kindOf(r)
		}
		starts := now != before
		switch now {
		case none, stacker:
			starts = false
		case word:
		case single:
			starts = before != stacker
		case syllable:
			starts = true
		case jamo:
			starts = before != syllable && before != jamo
		case continued:
			starts = before == none
			if !starts && before != stacker {
				now = before
			}
		}
		if starts && i > 0 {
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
	syllable              // the first letter of a syllable of Hangul
	jamo                  // another letter of one
	continued             // goes with what is before it
	stacker               // puts the letter that follows under the one before it
)

func kindOf(r rune) kind {
	switch {
	case r == '\u17d2', r == '\u1039':
		return stacker
	case '\u1160' <= r && r <= '\u11ff', '\ud7b0' <= r && r <= '\ud7fb':
		return jamo
	case r == 'ー', '\u3099' <= r && r <= '\u309e', '\u30fd' <= r && r <= '\u30fe':
		return continued
	case '\u1100' <= r && r <= '\u115f', '\ua960' <= r && r <= '\ua97c':
		return syllable
	case isHan(r):
		return single
	case '\u0e00' <= r && r <= '\u0eff', '\u1000' <= r && r <= '\u109f', '\u1780' <= r && r <= '\u17ff', // Thai to Khmer
		'\ua9e0' <= r && r <= '\ua9ff', '\uaa60' <= r && r <= '\uaa7f',
		'\u2e80' <= r && r <= '\u9fff', '\uf900' <= r && r <= '\ufaff', '\U0001aff0' <= r && r <= '\U0001b16f': // kana
		switch {
		case unicode.IsMark(r):
			return continued
		case unicode.In(r, unicode.L, unicode.Nl):
			return single
		}
	case unicode.IsMark(r):
		return continued
	}
	return word
}
