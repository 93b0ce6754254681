package endpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"gatehouse/authn"
)

var testFields = []field{{"email", text}, {"password", text}, {"name", optional}, {"everywhere", flag}}

func decodeTest(contentType string, body io.Reader) (input, error) {
	r := httptest.NewRequest("POST", "/login?email=query@example.com&password=query", body)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return decode(httptest.NewRecorder(), r, testFields...)
}

func TestDecode(t *testing.T) {
	const (
		asJSON = "application/json"
		asForm = "application/x-www-form-urlencoded"
	)
	takes := func(contentType, body string, want map[string]string) {
		t.Helper()
		in, err := decodeTest(contentType, strings.NewReader(body))
		if err != nil || !maps.Equal(in.values, want) {
			t.Errorf("decode(%s, %q) = %v, %v, want %v", contentType, body, in.values, err, want)
		}
	}
	refuses := func(contentType, body string, want *authn.Refusal, message string) {
		t.Helper()
		_, err := decodeTest(contentType, strings.NewReader(body))
		if got := authn.AsRefusal(err); err == nil || got.Code != want.Code || got.Message != message {
			t.Errorf("decode(%s, %.200q) = %v, want %s %q", contentType, body, err, want.Code, message)
			if err != nil {
				t.Logf("message %q", got.Message)
			}
		}
	}
	invalid := func(body, message string) {
		t.Helper()
		refuses(asJSON, body, authn.ErrInvalidRequest, message)
	}
	badForm := func(body, message string) {
		t.Helper()
		refuses(asForm, body, authn.ErrInvalidRequest, message)
	}
	both := map[string]string{"email": "a", "password": "b"}

	takes(asJSON, `{"email":"a","password":"b"}`, both)
	takes("application/json; charset=utf-8", ` { "password" : "b" , "email" : "a" } `, both)
	takes(`Application/JSON;charset="UTF-8"`, `{"email":"a","password":"b"}`, both)
	takes(asJSON, `{"email":"\u0061","pass\u0077ord":"b"}`, both)
	takes(asJSON, `{"email":"\ud83d\ude00\\ud800","password":"\"\\\/"}`, map[string]string{"email": `😀\ud800`, "password": `"\/`})
	takes(asJSON, `{"email":"a","password":"b","name":"","everywhere":true}`, map[string]string{"email": "a", "password": "b", "name": "", "everywhere": "true"})
	takes(asJSON, `{"email":"a","password":" b "}`, map[string]string{"email": "a", "password": " b "})
	takes(asForm, "email=a&password=b", both)
	takes(asForm+"; charset=UTF-8", "password=b&email=%61", both)
	takes(asForm, "email=a&password=b+%26%3d%C3%BC&next=%2Fa%0A", map[string]string{"email": "a", "password": "b &=ü", "next": "/a\n"})
	takes(asForm, "email=a&password=b&everywhere=false", map[string]string{"email": "a", "password": "b", "everywhere": "false"})

	// the shape of JSON
	const notJSON, unknown = "The body is not one JSON document", "Unknown field: want only email, password, name, everywhere"
	invalid("", "email: missing")
	invalid("{}", "email: missing")
	invalid(`{"email":"a"}`, "password: missing")
	invalid(`{"email":"a","password":""}`, "password: missing")
	invalid(" ", notJSON)
	invalid("{", notJSON)
	invalid(`{"email":"a","password":"b"`, notJSON)
	invalid(`{"email":"a","password":"b",}`, notJSON)
	invalid(`{'email':'a','password':'b'}`, notJSON)
	invalid(`{"email":"a","password":"b"}{}`, notJSON)
	invalid(`{"email":"a","password":"b"} x`, notJSON)
	invalid("{\"email\":\"a\",\"password\":\"b\"}\x00", notJSON)
	invalid(`{"email":"a",/* */"password":"b"}`, notJSON)
	invalid("\ufeff"+`{"email":"a","password":"b"}`, notJSON)
	invalid("{\x00\"\x00e\x00", notJSON)
	invalid(`email=a&password=b`, notJSON)
	invalid(strings.Repeat("[", 20_000), notJSON)
	invalid(strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000), notJSON)
	for _, s := range []string{"null", "true", "1", `"text"`, "[]", `[{"email":"a","password":"b"}]`} {
		invalid(s, "The body is not a JSON object")
	}

	// its members
	invalid(`{"email":{"$ne":null},"password":"b"}`, "email: want a text")
	invalid(`{"email":["a"],"password":"b"}`, "email: want a text")
	invalid(`{"email":null,"password":"b"}`, "email: want a text")
	invalid(`{"email":1,"password":"b"}`, "email: want a text")
	invalid(`{"email":"a","password":true}`, "password: want a text")
	invalid(`{"email":"a","password":1e999}`, "password: want a text")
	invalid(`{"email":"a","password":`+strings.Repeat(`{"a":`, 5000)+"1"+strings.Repeat("}", 5000)+"}", "password: want a text")
	invalid(`{"email":"a","password":"b","everywhere":"true"}`, "everywhere: want true or false")
	invalid(`{"email":"a","password":"b","everywhere":null}`, "everywhere: want true or false")
	invalid(`{"email":"a","password":"b","everywhere":1}`, "everywhere: want true or false")
	invalid(`{"email":"a","email":"a","password":"b"}`, "email: given twice")
	invalid(`{"email":"a","\u0065mail":"a","password":"b"}`, "email: given twice")
	invalid(`{"email":"a","password":"b","everywhere":true,"everywhere":true}`, "everywhere: given twice")
	invalid(`{"email":"a","EMAIL":"b","password":"b"}`, unknown)
	invalid(`{"Email":"a","password":"b"}`, unknown)
	invalid(`{"email":"a","pa\u017f\u017fword":"b"}`, unknown) // ſ folds to s
	invalid(`{"email":"a","password":"b","role":"admin"}`, unknown)
	invalid(`{"email":"a","password":"b","__proto__":{}}`, unknown)
	invalid(`{"email":"a","password":"b","":""}`, unknown)
	invalid(`{"email":"a","password":"b","next":"/"}`, unknown) // forms only

	// its texts
	const half = "The body holds half of a surrogate pair"
	invalid(`{"email":"a","password":"\ud800"}`, half)
	invalid(`{"email":"a","password":"\udc00"}`, half)
	invalid(`{"email":"a","password":"\ud800\u0041"}`, half)
	invalid(`{"email":"a","password":"\ud800\ud800\udc00"}`, half)
	invalid(`{"email":"a","password":"\uD83D\\uDE00"}`, half)
	invalid(`{"email":"a","password":"x\\\ud83d"}`, half)
	invalid(`{"email":"a","password":"\ude00\ud83d"}`, half)
	invalid("{\"email\":\"a\",\"password\":\"\xff\"}", "The body is not UTF-8")
	invalid("{\"email\":\"a\",\"password\":\"\xed\xa0\x80\"}", "The body is not UTF-8")
	invalid(`{"email":"a\u0000","password":"b"}`, "email: control characters are not accepted")
	invalid(`{"email":"a","password":"b\r\nc"}`, "password: control characters are not accepted")
	invalid(`{"email":"a","password":"b\u0085"}`, "password: control characters are not accepted")
	invalid("{\"email\":\"a\",\"password\":\"b\x7f\"}", "password: control characters are not accepted")
	invalid("{\"email\":\"a\",\"password\":\"b\x01\"}", notJSON)

	// forms
	badForm("", "email: missing")
	badForm("email=a", "password: missing")
	badForm("email&password=b", "email: missing")
	badForm("email=a&email=a&password=b", "email: given twice")
	badForm("email=a&password=b&next=/&next=//evil", "next: given twice")
	badForm("email=a&password=b&role=admin", unknown)
	badForm("email=a&password=b&Email=a", unknown)
	badForm("email=a&password=b&=", unknown)
	badForm("email[$ne]=a&password=b", unknown)
	badForm("email=a&password=%zz", "The form is not well encoded")
	badForm("email=a&password=%", "The form is not well encoded")
	badForm("email=a;password=b", "The form is not well encoded")
	badForm("email=a&password=%ff", "password: not UTF-8")
	badForm("email=a&password=b%00", "password: control characters are not accepted")
	badForm("email=a%0d%0a&password=b", "email: control characters are not accepted")
	badForm("email=a&password=b&everywhere=on", "everywhere: want true or false")
	badForm("email=a&password=b&everywhere=", "everywhere: want true or false")
	badForm(`{"email":"a","password":"b"}`, unknown)
	badForm("email=a&password=\xff", "The body is not UTF-8")

	// media types
	for _, s := range []string{
		"text/plain", "text/json", "application/xml", "multipart/form-data; boundary=x", "application/json; charset=utf-16",
		"application/json; charset=latin1", "application/json; profile=x", "application/json; charset=utf-8; charset=utf-16",
		"application/json, text/plain", "application/problem+json", "application/jsonp", "json", "*/*", ";", "application/json; charset",
		"application/x-www-form-urlencoded; charset=iso-8859-1", "",
	} {
		refuses(s, `{"email":"a","password":"b"}`, authn.ErrUnsupportedMedia, "Send application/json or a form")
	}
	refuses("", "", authn.ErrInvalidRequest, "email: missing")

	// sizes
	refuses(asJSON, `{"email":"a","password":"`+strings.Repeat("b", 3<<20)+`"}`, authn.ErrBodyTooLarge, "Request body is too large")
	refuses(asForm, "email=a&password="+strings.Repeat("b", 3<<20), authn.ErrBodyTooLarge, "Request body is too large")
	refuses(asJSON, strings.Repeat(" ", maxBody+1), authn.ErrBodyTooLarge, "Request body is too large")
	most := `{"email":"a","password":"b"}`
	takes(asJSON, most+strings.Repeat(" ", maxBody-len(most)), both)
}

// A body whose length is not told is cut while it is read.
func TestDecodeUntoldLength(t *testing.T) {
	_, err := decodeTest("application/json", io.MultiReader(strings.NewReader(strings.Repeat(" ", 3<<20))))
	if !errors.Is(err, authn.ErrBodyTooLarge) {
		t.Errorf("decode of 3 MB = %v, want %v", err, authn.ErrBodyTooLarge)
	}
	_, err = decodeTest("application/json", io.MultiReader(strings.NewReader(`{"email"`), failing{}))
	if !errors.Is(err, authn.ErrInvalidRequest) {
		t.Errorf("decode of a body that breaks off = %v, want %v", err, authn.ErrInvalidRequest)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestDecodeHeaders(t *testing.T) {
	refuses := func(name string, values ...string) {
		t.Helper()
		r := httptest.NewRequest("POST", "/login", strings.NewReader(`{"email":"a","password":"b"}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header[name] = values
		if _, err := decode(httptest.NewRecorder(), r, testFields...); !errors.Is(err, authn.ErrUnsupportedMedia) {
			t.Errorf("%s %q: %v, want %v", name, values, err, authn.ErrUnsupportedMedia)
		}
	}
	refuses("Content-Encoding", "gzip")
	refuses("Content-Type", "application/json", "application/json")
	refuses("Content-Type", "")
}

// No message holds anything of what was sent: it may be a password, or half of
// one that holds a "&".
func TestDecodeEchoesNothing(t *testing.T) {
	const secret = "hunter2"
	for _, body := range []string{
		`{"email":"a","password":{"hunter2":"hunter2"}}`, `{"email":"a","hunter2":"hunter2"}`, `{"email":"a","password":"hunter2"`,
		`{"email":"a","password":"hunter2\u0000"}`, `{"email":"a","password":"hunter2","password":"hunter2"}`, `hunter2`,
		"{\"email\":\"a\",\"password\":\"hunter2\xff\"}",
	} {
		echoesNothing(t, "application/json", body, secret)
	}
	for _, body := range []string{"email=a&password=x&hunter2", "email=a&password=hunter2%", "email=a&password=hunter2%00", "password=hunter2&password=hunter2", "hunter2;"} {
		echoesNothing(t, "application/x-www-form-urlencoded", body, secret)
	}
}

func echoesNothing(t *testing.T, contentType, body, secret string) {
	t.Helper()
	_, err := decodeTest(contentType, strings.NewReader(body))
	if err == nil {
		t.Fatalf("decode(%q) worked", body)
	}
	if ref := authn.AsRefusal(err); strings.Contains(err.Error()+ref.Message+ref.Description, secret) {
		t.Errorf("decode(%q) = %v, %q: holds the secret", body, err, ref.Message)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"email":"a","password":"b"}`, `{"email":"\ud83d\ude00","password":"\\\u0041","name":"","everywhere":false}`,
		`{"email":"a","password":"\ud800"}`, `{"a":{}}`, `\u`, `"\ud8`, "",
	} {
		f.Add([]byte(s), false)
	}
	f.Add([]byte("email=a&password=b%26&next=%2f&everywhere=true"), true)
	f.Add([]byte("email=%ff&password"), true)
	f.Fuzz(func(t *testing.T, data []byte, isForm bool) {
		values, err := parse(data, isForm, testFields)
		if err != nil {
			if !errors.Is(err, authn.ErrInvalidRequest) {
				t.Fatalf("parse(%q) = %v, want a Refusal", data, err)
			}
			return
		}
		kinds := map[string]kind{}
		for _, fd := range testFields {
			kinds[fd.name] = fd.kind
			if fd.kind == text && values[fd.name] == "" {
				t.Errorf("parse(%q): no %s", data, fd.name)
			}
		}
		for name, v := range values {
			k, ok := kinds[name]
			switch {
			case isForm && name == nextField:
			case !ok:
				t.Errorf("parse(%q): unknown %q", data, name)
			case k == flag && v != "true" && v != "false":
				t.Errorf("parse(%q): %s is %q", data, name, v)
			case !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl):
				t.Errorf("parse(%q): %s is %q", data, name, v)
			}
		}
		if want := lenient(t, data, isForm); !maps.Equal(values, want) {
			t.Errorf("parse(%q) = %q, the standard library reads %q", data, values, want)
		}
	})
}

// lenient is how the standard library reads a body that was accepted: the same.
func lenient(t *testing.T, data []byte, isForm bool) map[string]string {
	m := map[string]string{}
	if isForm {
		r := &http.Request{Method: "POST", Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, Body: io.NopCloser(bytes.NewReader(data)), URL: &url.URL{}}
		if err := r.ParseForm(); err != nil {
			t.Fatalf("ParseForm of %q: %v", data, err)
		}
		for name, v := range r.PostForm {
			m[name] = strings.Join(v, "|")
		}
		return m
	}
	var any map[string]any
	if err := json.Unmarshal(data, &any); err != nil {
		t.Fatalf("Unmarshal of %q: %v", data, err)
	}
	for name, v := range any {
		switch v := v.(type) {
		case string:
			m[name] = v
		case bool:
			m[name] = map[bool]string{true: "true", false: "false"}[v]
		}
	}
	return m
}
