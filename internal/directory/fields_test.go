package directory

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPlainURLs makes sure that what is taken for a URL at a glance is one.
func TestPlainURLs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`https?:/{0,3}[-A-Za-z0-9._/]{0,40}[ :@%?#\[\]é]?[A-Za-z]{0,2}`).Draw(t, "text")
		if isPlainURL(text) && !isURL(text) {
			t.Fatalf("%q is not a URL", text)
		}
	})
	for text, plain := range map[string]bool{
		"https://cdn.example.com/avatars/1/large.png": true, "http://localhost": true, "https://a_b.example/-": true,
		"": false, "https://": false, "https:///a": false, "https://-": false, "https:a": false, "ftp://example.com": false,
		"https://example.com?q": false, "https://example.com:443/": false, "https://exämple.com": false, "https://example.com/a b": false,
	} {
		if isPlainURL(text) != plain {
			t.Errorf("%q: plain is %v", text, !plain)
		}
	}
}
