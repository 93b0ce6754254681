package authn

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Every fault that is found has a text, and every text is of a fault that is
// found somewhere.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`[^c]\bfault\("([a-z0-9_]+)"`).FindAllSubmatch(source, -1) {
			used[string(m[1])] = true
		}
	}
	for name := range used {
		if faults[name] == "" {
			t.Errorf("fault %q has no text", name)
		}
	}
	for name := range FaultTexts() {
		if !used[name] {
			t.Errorf("fault %q is never found", name)
		}
	}
}

// A refusal says in English what its fault lets a page say in any language.
func TestRefusalAboutAFault(t *testing.T) {
	err := PasswordPolicy{MinLength: 12}.Check("geheim")
	r := AsRefusal(err)
	if !errors.Is(err, ErrWeakPassword) || r.Message != "password must have at least 12 characters; this one has 6" {
		t.Errorf("%v, message %q", err, r.Message)
	}
	if f := r.Fault; f == nil || f.Field != "password" || f.Name != "password_short" || f.Values["min"] != "12" || f.Values["characters"] != "6" {
		t.Errorf("fault %+v", f)
	}
	r = AsRefusal(invalid("email", fault("email_at")))
	if r.Fault.Field != "email" || r.Message != `email must have exactly one "@", as in ann@example.com` {
		t.Errorf("fault %+v, message %q", r.Fault, r.Message)
	}
	if ErrWeakPassword.Fault != nil {
		t.Error("the common refusal was changed")
	}
}
