-- As for SQLite.

CREATE INDEX users_cost ON users (substr(password_hash, 5, 2))
	WHERE length(password_hash) = 60
	AND substr(password_hash, 1, 4) IN ('$2a$', '$2b$', '$2y$')
	AND substr(password_hash, 5, 2) IN ('04', '05', '06', '07', '08', '09', '10', '11', '12', '13', '14', '15', '16', '17', '18')
	AND substr(password_hash, 7, 1) = '$'
	AND ltrim(substr(password_hash, 8), './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789') = '';
