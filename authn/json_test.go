package authn

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestReadObject(t *testing.T) {
	for _, good := range []string{
		`{}`, " {\t\"a\" :\r\n1 } ", `{"a":[],"b":{},"c":[1,"x",null,true,false]}`, `{"a":-0.5e+10,"b":0,"c":1E5}`,
		`{"\u0041\ud83d\ude00":"\"\\\/\b\f\n\r\t\u00e9é"}`, `{"a":"` + "\x7f" + `"}`, `{"":1}`,
		strings.Repeat(`{"a":`, 15) + `{}` + strings.Repeat("}", 15),
	} {
		got, err := readObject([]byte(good))
		if err != nil {
			t.Errorf("readObject(%s): %v", good, err)
			continue
		}
		if want := stdObject(t, good); !reflect.DeepEqual(got, want) {
			t.Errorf("readObject(%s) = %v, want %v", good, got, want)
		}
	}
	for bad, why := range map[string]string{
		``: "not a JSON object", `null`: "not a JSON object", `[]`: "not a JSON object", `"a"`: "not a JSON object", "\ufeff{}": "not a JSON object",
		`{"a":1}{}`: "after the object", `{} x`: "after the object", "{}\x00": "after the object",
		`{"a":1,"a":2}`: "twice", `{"a":1,"\u0061":2}`: "twice", `{"x":[{"a":1,"a":1}]}`: "twice",
		`{"a":1,}`: "name", `{,}`: "name", `{a:1}`: "name", `{'a':1}`: "name", `{"a" 1}`: `":"`, `{"a":1 "b":2}`: `"}"`, `{"a":[1 2]}`: `"]"`,
		`{"a":[1,]}`: "value", `{"a":}`: "value", `{"a":NaN}`: "value", `{"a":True}`: "value", `{"a":+1}`: "value", `{"a":.5}`: "value",
		`{"a":01}`: "number", `{"a":-}`: "number", `{"a":1.}`: "point", `{"a":1e}`: "exponent", `{"a":0x1}`: `"}"`,
		`{"a":"x`: "without end", `{"a":"\`: "escape", `{"a":"\x"}`: "escape", `{"a":"\u12"}`: "hexadecimal", `{"a":"\u12g4"}`: "hexadecimal",
		`{"a":"\ud800"}`: "surrogate", `{"a":"\udc00\ud800"}`: "surrogate", `{"a":"\ud800\u0041"}`: "surrogate",
		"{\"a\":\"\n\"}": "control", "{\"a\":\"\x00\"}": "control", "{\"a\":\"\xff\"}": "UTF-8", "{\"a\":\"\xed\xa0\x80\"}": "UTF-8", "{\"a\":\"\xc0\xaf\"}": "UTF-8",
		`{"a":1 // x` + "\n}": `"}"`, `{/**/}`: "name", `{`: "name", `{"a":`: "value", `{"a":[`: "value", `{"a":1`: `"}"`,
		strings.Repeat(`{"a":`, 16) + `{}` + strings.Repeat("}", 16): "nested",
		`{"a":` + strings.Repeat("[", 4000):                          "nested",
	} {
		got, err := readObject([]byte(bad))
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("readObject(%.60q) = %v, %v, want %q", bad, got, err, why)
		}
	}
}

func stdObject(t testing.TB, text string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		t.Errorf("encoding/json refuses %q, which readObject takes: %v", text, err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("encoding/json sees text after %q", text)
	}
	return object
}

// Whatever is taken means the same to encoding/json, in every way it has of
// reading it.
func FuzzReadObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `{"a":[1,2.5e3,{"b":"\u00e9\ud83d\ude00"}],"c":null}`, `{"a":1,"A":2}`, `{"a":"\/"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readObject(data)
		if err != nil {
			return
		}
		if want := stdObject(t, string(data)); !reflect.DeepEqual(got, want) {
			t.Errorf("readObject(%q) = %v, encoding/json %v", data, got, want)
		}
		if checkNames(got, claimNames) != nil {
			return
		}
		var typed struct{ Sub any }
		if json.Unmarshal(data, &typed) == nil && (typed.Sub == nil) != (got["sub"] == nil) {
			t.Errorf("%q: a struct reads sub %v, readObject %v", data, typed.Sub, got["sub"])
		}
	})
}

// fold holds equal what strings.EqualFold does, for every rune there is.
func TestFold(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		f := unicode.SimpleFold(r)
		if a, b := fold(string(r)), fold(string(f)); a != b {
			t.Fatalf("fold(%q) = %q, fold(%q) = %q, want the same", r, a, f, b)
		}
		if r < 0x80 && fold(string(r)) != strings.ToLower(string(r)) {
			t.Fatalf("fold(%q) = %q, want lower case", r, fold(string(r)))
		}
	}
	if fold("ſub") != "sub" || fold("\u212aid") != "kid" || fold("a") == fold("b") {
		t.Error("fold does not do what encoding/json does")
	}
}
