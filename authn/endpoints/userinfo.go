package endpoints

import "net/http"

// userinfo tells callers who they are, as their token has it.
func (e *Endpoints) userinfo(w http.ResponseWriter, r *http.Request) error {
	id, err := e.identify(r)
	if err != nil {
		return err
	}
	roles := id.Roles
	if roles == nil {
		roles = []string{}
	}
	return writeJSON(w, http.StatusOK, struct {
		Subject string   `json:"sub"`
		Email   string   `json:"email"`
		Name    string   `json:"name"`
		Roles   []string `json:"roles"`
		Session string   `json:"session"`    // "" if the token belongs to none
		Expires int64    `json:"expires_at"` // seconds since 1970, as exp
	}{id.ID, id.Email, id.Name, roles, id.Session, id.Expires.Unix()})
}
