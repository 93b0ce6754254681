package authn

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// MemoryStore keeps users, sessions and revocations until the process ends. It
// is for tests, and the shortest example of a store. The zero MemoryStore is
// empty and ready for use.
type MemoryStore struct {
	mu       sync.Mutex
	users    map[string]User
	sessions map[string]Session
	log      []Revocation
	grown    chan struct{} // closed by the next Append
}

func (m *MemoryStore) CreateUser(_ context.Context, u User) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.users[u.ID]; taken || m.byEmail(u.Email) != nil {
		return ErrUserExists
	}
	if m.users == nil {
		m.users = make(map[string]User)
	}
	m.users[u.ID] = copyUser(u)
	return nil
}

func (m *MemoryStore) UserByEmail(_ context.Context, email string) (User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u := m.byEmail(email); u != nil {
		return copyUser(*u), nil
	}
	return User{}, ErrUserNotFound
}

func (m *MemoryStore) byEmail(email string) *User {
	for _, u := range m.users {
		if u.Email == email {
			return &u
		}
	}
	return nil
}

func (m *MemoryStore) UserByID(_ context.Context, id string) (User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.users[id]
	if !ok {
		return User{}, ErrUserNotFound
	}
	return copyUser(u), nil
}

func (m *MemoryStore) UpdateUser(_ context.Context, id string, change func(*User) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.users[id]
	if !ok {
		return ErrUserNotFound
	}
	u = copyUser(u)
	if err := change(&u); err != nil {
		return err
	}
	if other := m.byEmail(u.Email); other != nil && other.ID != id {
		return ErrUserExists
	}
	u.ID = id
	m.users[id] = copyUser(u)
	return nil
}

func (m *MemoryStore) HighestCost(context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	highest := 0
	for _, u := range m.users {
		highest = max(highest, HashCost(u.PasswordHash))
	}
	return highest, nil
}

// DeleteUser forgets a user and the user's sessions.
func (m *MemoryStore) DeleteUser(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.users[id]; !ok {
		return ErrUserNotFound
	}
	delete(m.users, id)
	for _, s := range m.sessions {
		if s.UserID == id {
			delete(m.sessions, s.ID)
		}
	}
	return nil
}

// copyUser shares nothing with u, as if it came from a database.
func copyUser(u User) User {
	u.Roles = slices.Clone(u.Roles)
	return u
}

func (m *MemoryStore) CreateSession(_ context.Context, s Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.sessions[s.ID]; ok {
		return fmt.Errorf("session %q is there already", s.ID)
	}
	if _, ok := m.users[s.UserID]; !ok {
		return fmt.Errorf("session of user %q: %w", s.UserID, ErrUserNotFound)
	}
	if m.sessions == nil {
		m.sessions = make(map[string]Session)
	}
	m.sessions[s.ID] = s
	return nil
}

func (m *MemoryStore) SessionByID(_ context.Context, id string) (Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[id]
	if !ok {
		return Session{}, ErrSessionNotFound
	}
	return s, nil
}

func (m *MemoryStore) SessionsOf(_ context.Context, userID string) ([]Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []Session
	for _, s := range m.sessions {
		if s.UserID == userID {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b Session) int { return b.LastUsed.Compare(a.LastUsed) })
	return found, nil
}

func (m *MemoryStore) RotateSession(_ context.Context, current string, next Session) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[next.ID]
	if !ok || s.Refresh.Current != current {
		return false, nil
	}
	s.LastUsed, s.Expires, s.Address, s.UserAgent = next.LastUsed, next.Expires, next.Address, next.UserAgent
	s.Refresh = next.Refresh
	m.sessions[s.ID] = s
	return true, nil
}

func (m *MemoryStore) EndSession(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, id)
	return nil
}

func (m *MemoryStore) Append(_ context.Context, r Revocation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, r)
	if m.grown != nil {
		close(m.grown)
		m.grown = nil
	}
	return nil
}

func (m *MemoryStore) Read(ctx context.Context, cursor string, wait time.Duration) ([]Revocation, string, error) {
	at := 0
	if cursor != "" {
		var err error
		if at, err = strconv.Atoi(cursor); err != nil || at < 0 {
			return nil, "", fmt.Errorf("cursor %q: want one that Read returned", cursor)
		}
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		found, grown := m.after(at)
		if len(found) > 0 || wait <= 0 {
			return found, strconv.Itoa(at + len(found)), ctx.Err()
		}
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-deadline.C:
			return nil, strconv.Itoa(at), nil
		case <-grown:
		}
	}
}

func (m *MemoryStore) after(at int) ([]Revocation, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.grown == nil {
		m.grown = make(chan struct{})
	}
	return slices.Clone(m.log[min(at, len(m.log)):]), m.grown
}
