package searchtext_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"
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
		{"Ƙwazo Ɓala Ɗan Ƴar", "kwazo|bala|dan|yar"},
		{"Kɔfi Ƒoli Ɣeli", "kofi|foli|geli"},
		{"Sǥur Ǯakko", "sgur|zakko"},
		{"Kovács Győző Őry", "kovacs|gyozo|ory|Győ"},
		{"Nguyễn Thị Ánh Tuyết", "nguyen thi anh|tuyet|ÁNH"},
		{"Phạm Ngọc Ưng", "pham|ung|Ưng"},
		{"Kristján Þór Ægisson", "kristjan|thor|aegisson"},
		{"Ștefan Țiriac", "stefan|tiriac"},
		{"Ĳsbrand", "ijsbrand"},
		{"𝓐𝓭𝓪 Ⓑⓞⓑ", "ada|bob"},
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
		{"C++ Dev", "c++ dev|C Dev"},
		{"Anne\u2010Marie Smith\u2212Jones 1⁄2", "anne-marie|smith-jones|jones|1/2"},
		{"\u3164ghost\u2800king", "ghost|ghost king|king"},
		{"🫩🏴\U000e0067\U000e0062\U000e007f Tired", "🫩|🏴|tired"},
		{"🇩🇪 Jens 1️⃣", "🇩🇪|jens 1|1"},
		{"→ Next €uro", "→|next|€|uro"},
		{"ᠮᠣᠩ\u180bᠭᠣᠯ", "ᠮᠣᠩᠭᠣᠯ"},
		{"C++ Dev", "c|dev|c++"},
		// apostrophes
		{"O’Brien", "o'brien|o’brien|O`Brien|brien|o´b"},
		{"D'Angelo", "d’angelo|angelo|D‘A"},
		{"ʻIolani Kaʻahumanu", "iolani|'iolani|ka'ahumanu|kaʻahumanu|ahumanu"},
		{"N’Golo", "n'golo|golo"},
		{"Ada 'Countess' King", "countess|countess king|ada countess king|'countess'"},
		{"`Ohana Nicolo’", "ohana|'ohana|nicolo|nicolo'"},
		{"Mʹangala Kꞌicheʼ", "m'angala|kʼiche|iche"},
		{"Rock 'n' Roll", "rock n roll|'n'|n|roll"},
		// Greek and Cyrillic
		{"Οδυσσεύς Ελύτης", "ΟΔΥΣΣΕΥΣ|οδυσσευς|ελυτης|ΕΛΎΤΗΣ|οδυσσεύσ"},
		{"Ἀριστοτέλης", "αριστοτελης"},
		{"Семён Йорданов", "семен|СЕМЁН|йорд|иорданов"},
		{"Ґалаґан Їжак", "галаган|їжак|іжак"},
		{"ЛЕВ ТОЛСТОЙ", "лев|толстой|толстои"},
		// Armenian and Georgian
		{"Արամ Խաչատրյան", "արամ|ԽԱՉԱՏՐՅԱՆ"},
		{"შოთა რუსთაველი", "შოთა|ᲠᲣᲡᲗᲐᲕᲔᲚᲘ"},
		{"Սևակ Լևոնյան", "ՍԵՎԱԿ|սեւակ|ԼԵՒՈՆ|լեվոն|սե"},
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
		{"شہزاد ہارون", "شهزاد|هارون|شہزاد"},
		{"آزاده ۀ", "ازاده|آزاده"},
		{"יוסף צה״ל", "יוסף|צה\"ל"},
		{"\u202bעומר\u202c", "עומר"},
		{"ﻣﺤﻤﺪ", "محمد"},
		// Indic scripts
		{"सुमन कुमारी", "सुमन|कुमारी|कु"},
		{"ज़ैनब", "जैनब|ज़ैनब"},
		{"ரவி சங்கர்", "சங்கர்|ரவி"},
		{"অমর্ত্য সেন", "সেন|অমর্ত্য"},
		{"হড়াই", "হড়াই|হডাই"},
		{"ਗੁਰਪ੍ਰੀਤ ਸਿੰਘ", "ਸਿੰਘ|ਗੁਰਪ੍ਰੀਤ|ਗੁ"},
		{"కృష్ణ మూర్తి", "మూర్తి|కృష్ణ"},
		{"ಅನಿಲ್ ಕುಂಬ್ಳೆ", "ಕುಂಬ್ಳೆ|ಅನಿಲ್"},
		{"കൊച്ചി സൂര്യ", "സൂര്യ|കൊച്ചി"},
		{"සනත් ජයසූරිය", "ජයසූරිය|සනත්"},
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
		{"ｷﾑ 李小龙", "キム|小龙|龙|李"},
		{"민수 ㅠㅠ ㅋㅋ", "ㅠㅠ|ㅋㅋ|민수"},
		{"abcㅠ", "ㅠ|abc"},
		{"ﾊﾟｰﾄ", "パート|ト|ハ\u309aー"},
		{"王𮯰𣘺", "𮯰|𣘺|王𮯰"},
		{"佐々木〇", "々木|木〇|〇"},
		{"น้ำฝน", "น้ำฝน|ฝน|น้ำ"},
		{"ສຸລິຍາ ໄຊ", "ລິຍາ|ໄຊ|ຍາ"},
		{"ស្រីមុំ", "មុំ|ស្រី"},
		{"သန္တာ", "သန္တာ|သ"},
		// other scripts with case
		{"𐐔𐐯𐑅𐐨𐑉𐐯𐐻", "𐐼𐐯𐑅"},
		{"ᎠᎡᎢ", "Ꭰ|ꭰ"},
		{"𞤀𞤣𞤢𞤥 𞤔𞤢𞤤𞤮", "𞤢𞤣|𞤶𞤢𞤤𞤮|𞤔"},
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
		"O'Brien Ada":    "o brien|rien",
		"हरि":            "हर्|हरा|हरी",
		"कमल":            "काम|किमल|\u093f",
		"\u093e\u0e34":   "\u093e|\u0e34",
		"தமிழ்":          "தமழ|தமாழ|மிழ்",
		"করিম":           "করম|কারিম|রিম",
		"มานี":           "มาน\u0e35\u0e35|มานา|มนี|\u0e35",
		"ស្រី":           "រី|សរី",
		"သန္တာ":          "တာ|သနတာ",
		"は":              "ぱ|ば",
		"가나":             "각|나가|ㅏ|ㄱㄴ",
		"李小龙":            "李龙|李大",
		"Ιωάννης":        "ωαννης|ιωανα",
		"Йосип":          "осип",
		"👩‍💻 Grace":      "👨|🔥|grac e",
		"\u3164":         "\u3164|a|\u1160",
		"Æsa":            "esa|sa",
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
	want := []string{
		"ada", "Ádám", "Æsa", "Åsa", "Bob", "Çağlar", "(Carl)", "Đặng", "Émile", "İbrahim", "‘Iolani", "Ivan", "ıvana",
		"Łukasz", "Obama",
		"Ömer", "Øyvind", "Strauß", "strausz", "Þóra", "Yılmaz", "Zoë", "Ελένη", "Жанна", "가나", "각", "강",
	}
	names := slices.Clone(want)
	slices.Reverse(names)
	slices.SortStableFunc(names, func(a, b string) int { return strings.Compare(searchtext.Fold(a), searchtext.Fold(b)) })
	if !slices.Equal(names, want) {
		t.Errorf("got  %q\nwant %q", names, want)
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", " ": "", "\t\n": "", "ada": "ada", "ada ": "ada", " ada": "ada", "ada  lovelace": "ada lovelace",
		"Ada LOVELACE": "ada lovelace", "Ι": "ι", "Αϊ": "αι",
		"\u0301": "", "--": "", "a-": "a", "ß": "ss", "\xff": "\ufffd", "a\xffb": "a \ufffd b",
		"İ": "i", "ŉ": "n", "'": "", "´": "", "🔥": "🔥",
		"o'": "o", "'o": "o", "o'b": "o'b", "o´B": "o'b", "o''b": "o b", "o '' b": "o b",
		"o' b": "o b", "o'🔥": "o 🔥", "\x00": "", "a\x00b": "a b",
		"\u3099": "", "か\u3099": "が", "か \u3099": "か", "가": "\u1100\u1161",
		"각": "\u1100\u1161\u11a8", "\u0e34": "", "a\u2800": "a",
	} {
		if got := searchtext.Fold(text); got != want {
			t.Errorf("Fold(%q) is %q, want %q", text, got, want)
		}
	}
}

func FuzzFold(f *testing.F) {
	for _, text := range []string{
		"Ada Lovelace", "Strauß", "İstanbul", "山田太郎", "김철수", "علی\u200cرضا", "👩🏽‍💻", "ガ", "カ\u3099",
		"a\u0301\u3099", "\xff\xfe", "½", "ŉ", "´a`b", "\u1ffd",
		"O’Brien", "ǅ", "\u1e9e", "ﷺ", "\u0345", "सुमन", "ก\u0e48\u200d\u0e38", "\u093e", "OBrien 'x'", "ㅠㅠ", "Սևակ",
	} {
		f.Add(text)
	}
	f.Fuzz(checkFold)
}

// TestFoldEveryRune checks what FuzzFold does, for every rune alone, between letters, and before and behind marks.
func TestFoldEveryRune(t *testing.T) {
	t.Parallel()
	for r := range rune(0x20000) {
		if !utf8.ValidRune(r) || unicode.Is(unicode.Han, r) && r%64 != 0 {
			continue
		}
		checkFold(t, string(r))
		checkFold(t, "a"+string(r)+"か")
		checkFold(t, "か"+string(r)+"\u3099\u0301")
		checkFold(t, string([]rune{'ก', '\u0e48', r, '\u0e38', '\'', r}))
	}
}

// TestFoldMixedTexts checks what FuzzFold does, for texts of what folding treats in different ways.
func TestFoldMixedTexts(t *testing.T) {
	t.Parallel()
	runes := []rune("aZß'’´`  -é\u0301\u0338\u0345\u034f\u200d\ufe0f\u180b\u20e3かカｶ\u3099\u309aﾞー" +
		"가\u1100\u1161\u11a8\u1160ㄱㅏㄳก\u0e38\u0e48" +
		"\u0e33क\u093f\u093c\u094d\u0951ে\u09beসុ\u17d2ស\u17b4က\u1039\u1037ཀ\u0f71\u0f72\u0f81אָ״أـ\u0654ﹱیհևեւ" +
		"👩\U0001f3fd🔥⁄½½ŉ太\U000323b0\u00adιΣς\U00011347\U0001133e\u302e")
	for seed := range uint64(20_000) {
		random := rand.New(rand.NewPCG(seed, 0))
		text := make([]rune, 1+random.IntN(8))
		for i := range text {
			text[i] = runes[random.IntN(len(runes))]
		}
		checkFold(t, string(text))
	}
}

// TestFoldIsBlindToCase checks that all runes that Unicode says to differ in case alone fold alike.
func TestFoldIsBlindToCase(t *testing.T) {
	t.Parallel()
	for r := range rune(0x20000) {
		if folded, other := searchtext.Fold(string(r)), searchtext.Fold(string(unicode.SimpleFold(r))); r != 0x345 &&
			unicode.SimpleFold(r) != 0x345 && folded != other {
			t.Errorf("%q folds to %q, in the other case to %q", r, folded, other)
		}
	}
}

func checkFold(t *testing.T, text string) {
	t.Helper()
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
	if strings.Contains(folded, "  ") || strings.TrimSpace(folded) != folded || strings.Trim(folded, "'") != folded {
		t.Errorf("%q folds to %q", text, folded)
	}
	if !utf8.ValidString(folded) {
		t.Errorf("%q folds to %q, which is not UTF-8", text, folded)
	}
	last := 0
	for _, at := range searchtext.AppendWordStarts(nil, folded) {
		r, _ := utf8.DecodeRuneInString(folded[min(at, len(folded)):])
		if at <= last || at >= len(folded) || !utf8.RuneStart(folded[at]) || unicode.IsMark(r) || r == ' ' || r == '\'' {
			t.Errorf("a word of %q begins at %d", folded, at)
		}
		last = at
	}
}

func BenchmarkFold(b *testing.B) {
	for name, text := range map[string]string{
		"folded": "ada king of lovelace", "capitals": "Ada King of Lovelace", "accents": "Łukasz Wójcik-Müller",
		"han":   "山田太郎",
		"emoji": "👩🏽‍💻 Grace Hopper 🔥🔥",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				searchtext.Fold(text)
			}
		})
	}
}
