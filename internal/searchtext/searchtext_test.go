package searchtext_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/rollcall/rollcall/internal/searchtext"
)

// finds reports whether a search finds a name, as the index does.
func finds(name, search string) bool {
	folded, wanted := searchtext.Fold(name), searchtext.Fold(search)
	if wanted == "" {
		return false
	}
	if strings.HasPrefix(folded, wanted) {
		return true
	}
	return slices.ContainsFunc(searchtext.AppendWordStarts(nil, folded), func(at int) bool {
		return strings.HasPrefix(folded[at:], wanted)
	})
}

func TestSearchFindsNamesAsPeopleTypeThem(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, searches string // searches are separated by |
	}{
		// Latin
		{"Strauß", "strauss|STRAUSS|strauß|STRAUẞ|stra"},
		{"Ayşe Yılmaz", "yilmaz|Yılmaz|YILMAZ|ayse"},
		{"İbrahim Çağlar", "ibrahim|İBRAHİM|caglar|Çağ"},
		{"Łukasz Wójcik", "lukasz|łukasz|wojcik"},
		{"Søren Kierkegård", "soren|kierkegard|SØREN"},
		{"Đặng Thị Ngọc", "dang|đặng|dang thi|thi ngoc|ngọc"},
		{"Nguyễn Văn Đức", "nguyen van duc|duc"},
		{"Dvořák Jiří", "dvorak|jiri|Dvořák"},
		{"Erdős Pál", "erdos|pal"},
		{"Þórður Æsir", "thordur|aesir|þór"},
		{"Guðrún", "gudrun|guðr"},
		{"Ħamrun", "hamrun"},
		{"Əliyev İlham", "eliyev|ilham|Əli"},
		{"Œuvre Cœur", "oeuvre|coeur"},
		{"José Müller-Lüdenscheidt", "jose|müller|muller|ludenscheidt|muller ludenscheidt|müller-lüd"},
		{"ＡＤＡ Ｌｏｖｅｌａｃｅ", "ada|lovelace"},
		{"ﬁnn ﬂorian", "finn|florian"},
		{"Louis Ⅳ", "iv|louis iv"},
		{"x² ½", "x2|1|2"},
		{"Ŋoki Ŧivri", "noki|tivri"},
		// words
		{"Anne-Marie Smith-Jones", "anne|marie|jones|smith jones|anne-marie|anne marie smith|marie smith-jones"},
		{"(Bob)", "bob|(bob"},
		{"🔥Max", "max|🔥|🔥max"},
		{"Dr.Müller", "muller|dr|dr müller|dr.müller"},
		{"jean_paul.sartre", "sartre|paul|jean paul|jean_paul|jean-paul sartre"},
		{"Ada\u00a0Lovelace\u2003King", "lovelace|ada lovelace king"},
		{"soft\u00adhyphen zero\u200bwidth", "softhyphen|zerowidth"},
		{"ada@example.com", "ada|example|com|ada example"},
		{"👩🏽‍💻 Grace", "grace|👩|👩‍💻|👩🏿‍💻"},
		{"❤️ Love", "❤|love"},
		{"C++ Dev", "c|dev|c++"},
		// apostrophes
		{"O’Brien", "o'brien|o’brien|O`Brien|brien|o´b"},
		{"D'Angelo", "d’angelo|angelo|D‘A"},
		{"ʻIolani Kaʻahumanu", "iolani|'iolani|ka'ahumanu|kaʻahumanu|ahumanu"},
		{"N’Golo", "n'golo|golo"},
		// Greek and Cyrillic
		{"Οδυσσεύς Ελύτης", "ΟΔΥΣΣΕΥΣ|οδυσσευς|ελυτης|ΕΛΎΤΗΣ|οδυσσεύσ"},
		{"Ἀριστοτέλης", "αριστοτελης"},
		{"Семён Йорданов", "семен|СЕМЁН|йорд|иорданов"},
		{"Ґалаґан Їжак", "галаган|їжак|іжак"},
		{"ЛЕВ ТОЛСТОЙ", "лев|толстой|толстои"},
		// Armenian and Georgian
		{"Արամ Խաչատրյան", "արամ|ԽԱՉԱՏՐՅԱՆ"},
		{"შოთა რუსთაველი", "შოთა|ᲠᲣᲡᲗᲐᲕᲔᲚᲘ"},
		// Hebrew and Arabic
		{"שָׁלוֹם כֹּהֵן", "שלום|כהן"},
		{"\u200fמשה צ׳רניחובסקי", "משה|צ'רני"},
		{"\u200fمحمد", "محمد"},
		{"علی\u200cرضا", "علیرضا|علي|علی"},
		{"مُحَمَّد", "محمد"},
		{"أحمد إبراهيم", "احمد|ابراهيم|أحمد"},
		{"محـــمد", "محمد"},
		{"کریم", "كريم|کریم"},
		{"شہزاد", "شہزاد"},
		// Indic scripts
		{"सुमन कुमारी", "सुमन|कुमारी|कु"},
		{"ज़ैनब", "जैनब|ज़ैनब"},
		{"ரவி சங்கர்", "சங்கர்|ரவி"},
		{"অমর্ত্য সেন", "সেন|অমর্ত্য"},
		// written without spaces
		{"山田太郎", "太郎|山田|郎|山田太郎"},
		{"田中abc", "abc|中abc"},
		{"たかはし", "はし|たか"},
		{"ガンダム", "ガンダム|ｶﾞﾝﾀﾞﾑ|ダム|カ\u3099ン"},
		{"ｽｽﾞｷ", "スズキ|ズキ"},
		{"สมชาย ใจดี", "สมชาย|ชาย|ใจดี"},
		{"ສົມພອນ", "ພອນ"},
		{"សុខា", "ខា|សុ"},
		{"အောင်ဆန်း", "ဆန်း|အောင်"},
		{"김철수", "철수|김|기|ㄱ|수"},
		{norm.NFD.String("김철수"), "철수|김철"},
		{"이name", "name|이n"},
		// other scripts with case
		{"𐐔𐐯𐑅𐐨𐑉𐐯𐐻", "𐐼𐐯𐑅"},
		{"ᎠᎡᎢ", "Ꭰ|ꭰ"},
	} {
		for search := range strings.SplitSeq(test.searches, "|") {
			for _, name := range []string{test.name, norm.NFD.String(test.name), norm.NFC.String(test.name)} {
				if !finds(name, search) {
					t.Errorf("%q is not found by %q: %q, %q", name, search, searchtext.Fold(name), searchtext.Fold(search))
				}
			}
		}
	}
}

func TestSearchDoesNotFindOthers(t *testing.T) {
	t.Parallel()
	for name, searches := range map[string]string{
		"Ada Lovelace":   "da|lace|love lace|ada  x|\u0301|\u200d|-|.|'|\ufe0f",
		"Smith":          "mith|smyth",
		"सुमन":           "समन|मन",
		"か":              "が",
		"が":              "か",
		"김":              "ㅁ|임",
		"Müller":         "mueller|uller",
		"Strauß":         "sauss",
		"O’Brien":        "bri en",
		"jean_paul":      "npaul|aul",
		"🔥Max":           "💧|ax",
		"علی\u200cرضا":   "رض ا|ضا",
		"Anne-Marie":     "nne|arie",
		"สมชาย":          "\u0e34",
		"\u0301\u0302":   "a|\u0301",
		"Иванов":         "ванов",
		"𐐔𐐯𐑅":            "𐑅",
		"Ada (Countess)": "countess)x",
	} {
		for search := range strings.SplitSeq(searches, "|") {
			if finds(name, search) {
				t.Errorf("%q is found by %q: %q, %q", name, search, searchtext.Fold(name), searchtext.Fold(search))
			}
		}
	}
}

// TestOrderOfNames checks where names come that do not begin with a letter from a to z.
func TestOrderOfNames(t *testing.T) {
	t.Parallel()
	names := []string{
		"ada", "Ádám", "Bob", "(Carl)", "Çağlar", "Đặng", "Émile", "Ivan", "ıvana", "Łukasz", "Øyvind", "Strauß", "strausz", "Zoë", "Åsa", "Ömer",
	}
	slices.SortStableFunc(names, func(a, b string) int { return strings.Compare(searchtext.Fold(a), searchtext.Fold(b)) })
	want := []string{
		"ada", "Ádám", "Åsa", "Bob", "Çağlar", "(Carl)", "Đặng", "Émile", "Ivan", "ıvana", "Łukasz", "Ömer", "Øyvind", "Strauß", "strausz", "Zoë",
	}
	if !slices.Equal(names, want) {
		t.Errorf("got  %q\nwant %q", names, want)
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", " ": "", "\t\n": "", "ada": "ada", "ada ": "ada", " ada": "ada", "ada  lovelace": "ada lovelace", "Ada LOVELACE": "ada lovelace",
		"\u0301": "", "--": "", "a-": "a", "ß": "ss", "\xff": "\ufffd", "a\xffb": "a \ufffd b", "İ": "i", "ŉ": "'n", "'": "'", "´": "'", "🔥": "🔥",
	} {
		if got := searchtext.Fold(text); got != want {
			t.Errorf("Fold(%q) is %q, want %q", text, got, want)
		}
	}
}

func FuzzFold(f *testing.F) {
	for _, text := range []string{
		"Ada Lovelace", "Strauß", "İstanbul", "山田太郎", "김철수", "علی\u200cرضا", "👩🏽‍💻", "ガ", "カ\u3099", "a\u0301\u3099", "\xff\xfe", "½", "ŉ", "´a`b", "\u1ffd",
		"O’Brien", "ǅ", "\u1e9e", "ﷺ", "\u0345", "सुमन",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		folded := searchtext.Fold(text)
		if again := searchtext.Fold(folded); again != folded {
			t.Errorf("%q folds to %q, and that to %q", text, folded, again)
		}
		if utf8.ValidString(text) {
			for _, form := range []norm.Form{norm.NFC, norm.NFD} {
				if other := searchtext.Fold(form.String(text)); other != folded {
					t.Errorf("%q folds to %q, and normalized to %q", text, folded, other)
				}
			}
		}
		if strings.Contains(folded, "  ") || strings.TrimSpace(folded) != folded {
			t.Errorf("%q folds to %q", text, folded)
		}
		last := 0
		for _, at := range searchtext.AppendWordStarts(nil, folded) {
			if at <= last || at >= len(folded) || !utf8.RuneStart(folded[at]) {
				t.Errorf("a word of %q begins at %d", folded, at)
			}
			last = at
		}
	})
}

func BenchmarkFold(b *testing.B) {
	for name, text := range map[string]string{
		"folded": "ada king of lovelace", "capitals": "Ada King of Lovelace", "accents": "Łukasz Wójcik-Müller", "han": "山田太郎",
		"emoji": "👩🏽‍💻 Grace Hopper 🔥🔥",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				searchtext.Fold(text)
			}
		})
	}
}
