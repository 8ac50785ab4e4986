package bench

import (
	"context"
	"fmt"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// Names as people have them: some are common, and many begin alike.
var (
	firstNames = []string{
		"Ada", "Adam", "Adele", "Aisha", "Alan", "Alba", "Alice", "Amara", "Amir", "Ana", "Andrea", "Anna", "Anne-Marie", "Antonio",
		"Beatriz", "Ben", "Bruno", "Carla", "Carlos", "Chen", "Chidi", "Clara", "Dana", "Daniel", "David", "Diego", "Elena", "Emil",
		"Emma", "Eva", "Fatima", "Felix", "Femi", "Giulia", "Grace", "Hana", "Hans", "Hugo", "Ibrahim", "Inés", "Ivan", "Jan", "Jana",
		"Jean", "José", "Julia", "Kaito", "Karim", "Kofi", "Lars", "Laura", "Lea", "Leo", "Lin", "Lucía", "Łukasz", "Magda", "Malik",
		"Maria", "Marta", "Max", "Mei", "Mia", "Mohammed", "Nadia", "Nina", "Noah", "Nour", "Olga", "Omar", "Oscar", "Øyvind", "Paul",
		"Pedro", "Priya", "Rafael", "Ravi", "Rosa", "Ruth", "Sam", "Sara", "Sofia", "Søren", "Sven", "Tariq", "Theo", "Tomás", "Uma",
		"Vera", "Victor", "Wei", "Yara", "Yuki", "Yusuf", "Zainab", "Zoë",
	}
	lastNames = []string{
		"Abara", "Adler", "Ahmed", "Almeida", "Andersen", "Bauer", "Becker", "Bianchi", "Brown", "Castro", "Chen", "Cohen", "Costa",
		"Dang", "Diaz", "Dubois", "Dvořák", "Eze", "Fernández", "Fischer", "Fontaine", "García", "Goto", "Gruber", "Haddad", "Hansen",
		"Hoffmann", "Horvat", "Ibrahim", "Ivanova", "Jansen", "Johansson", "Jones", "Kaya", "Keller", "Khan", "Kim", "Kowalski", "Kumar",
		"Lopez", "Lovelace", "Maier", "Martin", "Mbeki", "Meyer", "Moreau", "Müller", "Nakamura", "Nguyen", "Novak", "O'Brien", "Okafor",
		"Olsen", "Papadopoulos", "Patel", "Pereira", "Petrov", "Popescu", "Ramos", "Rossi", "Russo", "Sánchez", "Sato", "Schmidt",
		"Schneider", "Silva", "Singh", "Smith", "Smith-Jones", "Sørensen", "Strauß", "Suzuki", "Svensson", "Tanaka", "Taylor", "Torres",
		"Tran", "van den Berg", "Varga", "Vogel", "Walsh", "Wang", "Weber", "Williams", "Wood", "Yamada", "Yılmaz", "Zhang", "Zoller",
	}
)

// mixed spreads numbers that follow each other.
func mixed(n int64) uint64 { return uint64(n) * 0x9e3779b97f4a7c15 >> 20 }

func nameOf(n int64) string {
	h := mixed(n)
	return firstNames[h%uint64(len(firstNames))] + " " + lastNames[h/uint64(len(firstNames))%uint64(len(lastNames))]
}

// profile is a user as apps make them: with an avatar, two tags and metadata. Half of all are in one region; a tenth, a
// hundredth and a thousandth have another tag in common.
func profile(n int64) string {
	region, tier, role := "eu", fmt.Sprintf("team-%d", n%5000), ""
	if mixed(n+1)%2 == 1 {
		region = "us"
	}
	switch h := mixed(n+2) % 1000; {
	case h == 0:
		tier = "thousandth"
	case h <= 10:
		tier = "hundredth"
	case h <= 110:
		tier = "tenth"
	}
	if mixed(n+3)%100 == 0 {
		role = `"role":"staff",`
	}
	return fmt.Sprintf(`{"uid":"user-%d","name":"%s",%s"avatar":"https://cdn.example.com/avatars/%d/large.png",`+
		`"tags":["%s","%s"],"metadata":{"city":"city-%d","plan":"premium","joined":"2026-01-%02d"}}`,
		n, nameOf(n), role, n, region, tier, mixed(n+4)%100, n%28+1)
}

// prepareApp makes what the users refer to: a role, and the metadata key by which they are listed.
func (r *run) prepareApp(ctx context.Context) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	if _, err := c.Roles.Create(ctx, api.CreateRoleRequest{Role: "staff", Name: "Staff"}); err != nil {
		return err
	}
	keys := []string{"city"}
	operator, err := client.New("http://"+r.server.address,
		client.WithManagement(r.credentials.ManagementKey, r.credentials.ManagementSecret))
	if err != nil {
		return err
	}
	_, err = operator.Apps.UpdateSettings(ctx, r.credentials.AppID, api.UpdateAppSettingsRequest{MetadataKeys: &keys})
	return err
}
